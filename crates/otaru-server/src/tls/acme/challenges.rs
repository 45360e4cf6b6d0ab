//! Handshakes that prove a name (tls-alpn-01, RFC 8737): who asks for the protocol `acme-tls/1`, and for nothing else, is shown a certificate
//! with the digest that the directory expects. Nobody else ever sees it.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};
use rustls::crypto::ring;
use rustls::pki_types::PrivateKeyDer;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::domain::Domain;
use crate::tls::error::TlsError;
use crate::tls::live::LiveCertificate;

/// Protocol of such handshakes, as ALPN names it.
pub const PROTOCOL: &[u8] = b"acme-tls/1";

/// Answers to the challenges that are open, by domain: as many as an order has domains.
#[derive(Debug, Default)]
pub struct Challenges(RwLock<BTreeMap<String, Arc<CertifiedKey>>>);

impl Challenges {
    /// Answers the challenge of a domain from now on.
    pub(super) fn answer(&self, domain: &Domain, digest: &[u8]) -> Result<(), TlsError> {
        let key = KeyPair::generate().map_err(setup)?;
        let mut params = CertificateParams::new([domain.as_str().to_owned()]).map_err(setup)?;
        params.distinguished_name = DistinguishedName::new();
        params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
        let certificate = params.self_signed(&key).map_err(setup)?;
        let signing = PrivateKeyDer::try_from(key.serialize_der()).map_err(setup)?;
        let signing = ring::sign::any_supported_type(&signing).map_err(setup)?;
        let certified = CertifiedKey::new(vec![certificate.der().clone()], signing);
        let mut open = self.0.write().unwrap_or_else(PoisonError::into_inner);
        open.insert(domain.as_str().to_owned(), Arc::new(certified));
        Ok(())
    }

    /// Answers none any more.
    pub(super) fn close(&self) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn of(&self, host: Option<&str>) -> Option<Arc<CertifiedKey>> {
        let host = host?.to_ascii_lowercase();
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(&host).cloned()
    }
}

/// Certificates of the HTTPS listener: the one in use, and those that answer challenges.
#[derive(Debug)]
pub struct HttpsCertificates {
    /// The certificate in use.
    pub live: Arc<LiveCertificate>,
    /// The challenges that are open.
    pub challenges: Arc<Challenges>,
}

impl ResolvesServerCert for HttpsCertificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        match hello.alpn().is_some_and(|protocols| protocols.eq([PROTOCOL])) {
            true => self.challenges.of(hello.server_name()),
            false => self.live.resolve(hello),
        }
    }
}

fn setup(error: impl std::fmt::Display) -> TlsError {
    TlsError::Setup(error.to_string())
}
