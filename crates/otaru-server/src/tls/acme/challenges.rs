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

#[cfg(test)]
mod tests {
    use rustls::client::WebPkiServerVerifier;
    use rustls::pki_types::{CertificateDer, ServerName};
    use rustls::server::Acceptor;
    use rustls::{ClientConfig, ClientConnection, RootCertStore};

    use super::*;
    use crate::tls::pair::PairFiles;

    const DIGEST: [u8; 32] = [7; 32];

    /// A certificate for the listener, for `ota.example.com`.
    fn live() -> (CertificateDer<'static>, LiveCertificate) {
        let (folder, key) = (tempfile::tempdir().unwrap(), KeyPair::generate().unwrap());
        let made = CertificateParams::new(["ota.example.com".to_owned()]).unwrap().self_signed(&key).unwrap();
        let file = folder.path().join("both.pem");
        std::fs::write(&file, made.pem() + &key.serialize_pem()).unwrap();
        let pair = PairFiles { certificate: file.clone(), key: file }.read().unwrap();
        (made.der().clone(), LiveCertificate::new(Some(pair)))
    }

    /// Certificate that is shown to who asks for these protocols, and for a host; an address is no name that a client says.
    fn shown(
        certificates: &HttpsCertificates,
        host: &str,
        protocols: &[&[u8]],
    ) -> Option<CertificateDer<'static>> {
        let (trusted, _) = live();
        let mut roots = RootCertStore::empty();
        roots.add(trusted).unwrap();
        let provider = Arc::new(ring::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
        let builder =
            ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let mut config = builder.with_webpki_verifier(verifier.build().unwrap()).with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        let name = ServerName::try_from(host.to_owned()).unwrap();
        let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut hello = Vec::new();
        client.write_tls(&mut hello).unwrap();
        let mut acceptor = Acceptor::default();
        acceptor.read_tls(&mut &hello[..]).unwrap();
        let accepted = acceptor.accept().ok().unwrap().unwrap();
        certificates.resolve(accepted.client_hello()).map(|found| found.cert[0].clone())
    }

    /// Whether a certificate proves the domain: it has the digest that the directory expects (RFC 8737, section 3).
    fn is_proof(certificate: &CertificateDer<'_>) -> bool {
        let extension =
            [&[0x30, 0x31, 0x06, 0x08, 0x2b, 6, 1, 5, 5, 7, 1, 31, 1, 1, 0xff, 4, 34, 4, 32], &DIGEST[..]];
        let extension = extension.concat();
        certificate.windows(extension.len()).any(|part| part == extension)
    }

    #[test]
    fn a_proof_is_shown_to_who_asks_for_it_alone_and_for_its_domain() {
        let (own, live) = live();
        let certificates = HttpsCertificates { live: Arc::new(live), challenges: Arc::default() };
        let domain: Domain = "ota.example.com".parse().unwrap();
        assert_eq!(shown(&certificates, domain.as_str(), &[PROTOCOL]), None, "none is open yet");
        certificates.challenges.answer(&domain, &DIGEST).unwrap();
        for host in ["ota.example.com", "OTA.Example.com"] {
            let proof = shown(&certificates, host, &[PROTOCOL]).unwrap();
            assert!(is_proof(&proof) && proof != own, "{host}");
        }
        for host in ["other.example.com", "example.com", "192.0.2.7"] {
            assert_eq!(shown(&certificates, host, &[PROTOCOL]), None, "{host}");
        }
        let all: [&[&[u8]]; 4] = [&[], &[b"http/1.1"], &[b"h2", b"http/1.1"], &[PROTOCOL, b"http/1.1"]];
        for protocols in all {
            for host in ["ota.example.com", "other.example.com", "192.0.2.7"] {
                assert_eq!(
                    shown(&certificates, host, protocols).as_ref(),
                    Some(&own),
                    "{host}, {protocols:?}"
                );
            }
        }
        certificates.challenges.close();
        assert_eq!(shown(&certificates, domain.as_str(), &[PROTOCOL]), None, "once it is over");
    }

    #[test]
    fn before_there_is_a_certificate_only_a_proof_is_shown() {
        let live = Arc::new(LiveCertificate::new(None));
        let certificates = HttpsCertificates { live, challenges: Arc::default() };
        let domain: Domain = "ota.example.com".parse().unwrap();
        certificates.challenges.answer(&domain, &DIGEST).unwrap();
        assert_eq!(shown(&certificates, domain.as_str(), &[b"http/1.1"]), None);
        assert!(is_proof(&shown(&certificates, domain.as_str(), &[PROTOCOL]).unwrap()));
    }
}
