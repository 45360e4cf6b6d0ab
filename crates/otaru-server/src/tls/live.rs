//! The certificate in use, once there is one. A new one takes its place for the next handshake; connections that are open go on.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::pki_types::CertificateDer;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::facts::Facts;
use super::pair::Pair;

/// The certificate in use, once there is one.
pub struct LiveCertificate(RwLock<Option<Pair>>);

impl fmt::Debug for LiveCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LiveCertificate").field(&self.facts()).finish()
    }
}

impl LiveCertificate {
    /// Begins with this one; without one, handshakes are refused.
    pub fn new(pair: Option<Pair>) -> Self {
        Self(RwLock::new(pair))
    }

    /// Takes another from now on.
    pub fn replace(&self, pair: Pair) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(pair);
    }

    /// Returns the facts of the one in use, if there is one.
    pub fn facts(&self) -> Option<Facts> {
        let pair = self.0.read().unwrap_or_else(PoisonError::into_inner);
        pair.as_ref().map(|pair| pair.facts.clone())
    }

    /// Returns the one in use and those behind it in its file, in DER; none before there is one.
    pub fn chain(&self) -> Vec<CertificateDer<'static>> {
        let pair = self.0.read().unwrap_or_else(PoisonError::into_inner);
        pair.as_ref().map(|pair| pair.certified.cert.clone()).unwrap_or_default()
    }
}

impl ResolvesServerCert for LiveCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let pair = self.0.read().unwrap_or_else(PoisonError::into_inner);
        pair.as_ref().map(|pair| Arc::clone(&pair.certified))
    }
}
