//! Settings of TLS: what each listener speaks.
//!
//! Versions 1.2 and 1.3 with what `ring` brings: ECDHE and AEAD ciphers only. Records are of 4 KiB at most, since a chip keeps a buffer
//! for the longest one that may come.
//!
//! Sessions are not kept here: a table of them would be memory for whoever knocks. Browsers and downloads get one ticket, which they keep
//! themselves and which saves a later connection the signature; its keys are in memory, change every six hours and end with the process.
//! At MQTTS there are none: a device connects seldom and stays, our agent does not resume, and so each connection proves its certificate
//! anew, against the authority of devices as it is then.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::CertificateDer;
use rustls::server::{ClientCertVerifierBuilder, NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};

use super::acme::{Challenges, HttpsCertificates, PROTOCOL};
use super::error::TlsError;
use super::live::LiveCertificate;
use super::pair::certificates;

/// Bytes of the longest record that is sent.
const RECORD: usize = 4096;

/// Settings of HTTPS, which answers challenges of a directory where there are some.
///
/// # Errors
/// When the library refuses them.
pub fn https(
    live: Arc<LiveCertificate>,
    challenges: Option<Arc<Challenges>>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let builder = builder()?.with_no_client_auth();
    let mut config = match &challenges {
        Some(challenges) => builder
            .with_cert_resolver(Arc::new(HttpsCertificates { live, challenges: Arc::clone(challenges) })),
        None => builder.with_cert_resolver(live),
    };
    common(&mut config);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.alpn_protocols.extend(challenges.map(|_| PROTOCOL.to_vec()));
    config.ticketer = ring::Ticketer::new().map_err(setup)?;
    config.send_tls13_tickets = 1;
    Ok(Arc::new(config))
}

/// Settings of MQTTS, where devices may show certificates that these authorities signed, if there are some.
///
/// # Errors
/// When one of them is damaged, or the library refuses them.
pub(super) fn mqtts(
    live: Arc<LiveCertificate>,
    authorities: Vec<CertificateDer<'static>>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let builder = builder()?;
    let builder = match authorities.is_empty() {
        true => builder.with_no_client_auth(),
        false => {
            let mut roots = RootCertStore::empty();
            for authority in authorities {
                let damaged = |error| TlsError::Setup(format!("an authority of devices is damaged: {error}"));
                roots.add(authority).map_err(damaged)?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
            builder.with_client_cert_verifier(verifier.allow_unauthenticated().build().map_err(setup)?)
        }
    };
    let mut config = builder.with_cert_resolver(live);
    common(&mut config);
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// Settings of HTTPS for brokers, which show a certificate that the authority in `ca` signed, if one is named. There are no tickets: each
/// connection proves its certificate.
///
/// # Errors
/// When that file cannot be used, or the library refuses them.
pub fn for_brokers(live: Arc<LiveCertificate>, ca: Option<&Path>) -> Result<Arc<ServerConfig>, TlsError> {
    let builder = builder()?;
    let builder = match ca {
        Some(path) => builder.with_client_cert_verifier(clients_of(path)?.build().map_err(setup)?),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(live);
    common(&mut config);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// Returns a verifier of clients whose certificates the authority in a file signed.
fn clients_of(path: &Path) -> Result<ClientCertVerifierBuilder, TlsError> {
    let mut roots = RootCertStore::empty();
    for root in certificates(path)? {
        let damaged =
            |error: rustls::Error| TlsError::Damaged { path: path.to_owned(), why: error.to_string() };
        roots.add(root).map_err(damaged)?;
    }
    Ok(WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()))
}

fn common(config: &mut ServerConfig) {
    config.max_fragment_size = Some(RECORD);
    config.session_storage = Arc::new(NoServerSessionStorage {});
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn builder() -> Result<rustls::ConfigBuilder<ServerConfig, rustls::WantsVerifier>, TlsError> {
    ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().map_err(setup)
}

fn setup(error: impl std::fmt::Display) -> TlsError {
    TlsError::Setup(error.to_string())
}
