//! CAs that are trusted, and the certificate that is shown.

use std::fmt;
use std::sync::{Arc, OnceLock};

use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::error::TrustError;
use crate::verifier::Verifier;

/// Certificate that is shown to a server that asks, and its key.
#[derive(Clone, PartialEq, Eq)]
struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: Arc<PrivateKeyDer<'static>>,
    /// The same in PEM.
    key_pem: Arc<[u8]>,
}

/// CAs that are trusted, and the certificate that is shown. By default those of the system, and none. The key is never printed.
#[derive(Clone, Default)]
pub struct Trust {
    /// `None` for the system's.
    cas: Option<Vec<CertificateDer<'static>>>,
    identity: Option<Identity>,
    /// Configuration of rustls, made once.
    config: Arc<OnceLock<Arc<ClientConfig>>>,
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cas = self.cas.as_ref().map(Vec::len);
        f.debug_struct("Trust").field("cas", &cas).field("identity", &self.identity.is_some()).finish()
    }
}

impl PartialEq for Trust {
    fn eq(&self, other: &Self) -> bool {
        self.cas == other.cas && self.identity == other.identity
    }
}

impl Eq for Trust {}

impl Trust {
    /// Trusts the CAs of a PEM text, and no others. A certificate that a server has made itself may be one.
    ///
    /// # Errors
    /// Returns an error if there is none in it, or one that is damaged.
    pub fn of_pem(pem: &[u8]) -> Result<Self, TrustError> {
        let trust = Self { cas: Some(certificates(pem)?), ..Self::default() };
        trust.client_config()?;
        Ok(trust)
    }

    /// Shows this certificate, with those between it and its CA, to a server that asks.
    ///
    /// # Errors
    /// Returns an error if certificate or key are missing or damaged, or do not belong together.
    pub fn with_identity(self, certificate: &[u8], key: &[u8]) -> Result<Self, TrustError> {
        let key_pem = key.into();
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| match error {
            pem::Error::NoItemsFound => TrustError::NoKey,
            error => error.into(),
        })?;
        let identity = Identity { chain: certificates(certificate)?, key: Arc::new(key), key_pem };
        let trust = Self { identity: Some(identity), config: Arc::default(), ..self };
        trust.client_config()?;
        Ok(trust)
    }

    /// CAs that are trusted, in DER.
    ///
    /// # Errors
    /// Returns an error if the system has no roots.
    pub fn roots(&self) -> Result<Vec<CertificateDer<'static>>, TrustError> {
        match &self.cas {
            Some(cas) => Ok(cas.clone()),
            None => system(),
        }
    }

    /// Certificate that is shown, with those up to its CA, in DER, and its key in PEM.
    pub fn identity(&self) -> Option<(&[CertificateDer<'static>], &[u8])> {
        self.identity.as_ref().map(|identity| (identity.chain.as_slice(), &*identity.key_pem))
    }

    /// Configuration of rustls, made once; each session begins anew.
    ///
    /// # Errors
    /// Returns an error if the system has no roots.
    pub fn client_config(&self) -> Result<Arc<ClientConfig>, TrustError> {
        if let Some(config) = self.config.get() {
            return Ok(Arc::clone(config));
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = Arc::new(Verifier::new(self.roots()?, &provider)?);
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match &self.identity {
            Some(Identity { chain, key, .. }) => {
                builder.with_client_auth_cert(chain.clone(), key.clone_key())?
            }
            None => builder.with_no_client_auth(),
        };
        config.resumption = Resumption::disabled();
        Ok(Arc::clone(self.config.get_or_init(|| Arc::new(config))))
    }
}

/// Reads all certificates of a PEM text.
fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TrustError> {
    let all = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>()?;
    if all.is_empty() { Err(TrustError::NoCertificate) } else { Ok(all) }
}

/// The roots of this system, or of the files that `SSL_CERT_FILE` and `SSL_CERT_DIR` name. Those that cannot be read as such are left
/// out, as other programs do.
fn system() -> Result<Vec<CertificateDer<'static>>, TrustError> {
    let found = rustls_native_certs::load_native_certs();
    let usable = |ca: &CertificateDer<'_>| webpki::anchor_from_trusted_cert(ca).is_ok();
    let cas: Vec<_> = found.certs.into_iter().filter(usable).collect();
    if cas.is_empty() { Err(TrustError::NoRoots) } else { Ok(cas) }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    fn made() -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(["h".to_owned()]).unwrap().self_signed(&key).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    #[test]
    fn what_cannot_be_used_says_why() {
        let ((certificate, key), (_, other)) = (made(), made());
        let trust = Trust::of_pem(certificate.as_bytes()).unwrap();
        assert!(matches!(Trust::of_pem(b""), Err(TrustError::NoCertificate)));
        assert!(matches!(Trust::of_pem(key.as_bytes()), Err(TrustError::NoCertificate)));
        let damaged = certificate.replacen("MII", "!!!", 1);
        assert!(matches!(Trust::of_pem(damaged.as_bytes()), Err(TrustError::Pem(_))));
        let identity = |key: &str| trust.clone().with_identity(certificate.as_bytes(), key.as_bytes());
        assert!(matches!(identity(&certificate), Err(TrustError::NoKey)));
        assert!(matches!(identity(&other), Err(TrustError::Tls(_))));
        assert!(identity(&key).is_ok());
    }

    #[test]
    fn a_key_is_never_printed() {
        let (certificate, key) = made();
        let trust = Trust::of_pem(certificate.as_bytes()).unwrap();
        let trust = trust.with_identity(certificate.as_bytes(), key.as_bytes()).unwrap();
        assert_eq!(format!("{trust:?}"), "Trust { cas: Some(1), identity: true }");
    }
}
