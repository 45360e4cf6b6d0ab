//! Settings of TLS: what each listener speaks.
//!
//! Versions 1.2 and 1.3 with what `ring` brings: ECDHE and AEAD ciphers only. Records are of 4 KiB at most, since a chip keeps a buffer
//! for the longest one that may come.
//!
//! Sessions are not kept here: a table of them would be memory for whoever knocks. Browsers and downloads get one ticket, which they keep
//! themselves and which saves a later connection the signature; its keys are in memory, change every six hours and end with the process.
//! At MQTTS there are none: a device connects seldom and stays, our agent does not resume, and so each connection proves its certificate
//! anew, against the authority of devices as it is then.

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::CertificateDer;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};

use super::acme::{Challenges, HttpsCertificates, PROTOCOL};
use super::error::TlsError;
use super::live::LiveCertificate;

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
