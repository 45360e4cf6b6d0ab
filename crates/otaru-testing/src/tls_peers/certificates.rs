//! Authorities and the certificates that they give, right or odd.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SigningKey, SingleCertAndKey};
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};

/// Largest record of servers that keep to what devices have room for.
pub const SMALL_RECORDS: usize = 4096;

/// Certificate authority, and the certificates between it and the root.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    between: Vec<CertificateDer<'static>>,
}

/// Chain of certificates and the key of its first.
pub struct Chain {
    /// Certificates, in the order in which they are sent.
    pub certificates: Vec<CertificateDer<'static>>,
    /// Key.
    pub key: KeyPair,
}

fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new([]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

/// Makes a key on P-256.
pub fn key() -> KeyPair {
    KeyPair::generate().unwrap()
}

/// Arithmetic of servers.
pub(super) fn provider() -> CryptoProvider {
    rustls::crypto::ring::default_provider()
}

impl Authority {
    /// Makes a root.
    pub fn new(name: &str) -> Self {
        Self::with_key(name, key())
    }

    /// Makes a root of this key.
    pub fn with_key(name: &str, key: KeyPair) -> Self {
        Self::with(name, key, |_| {})
    }

    /// Makes a root, changed so.
    pub fn with(name: &str, key: KeyPair, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut params = named(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        change(&mut params);
        Self { issuer: CertifiedIssuer::self_signed(params, key).unwrap(), between: Vec::new() }
    }

    /// Makes an authority below this one; or something that says it is none, and signs all the same.
    pub fn below(&self, name: &str, is_ca: IsCa) -> Self {
        self.below_with(name, |params| params.is_ca = is_ca)
    }

    /// Makes one below this, changed so.
    pub fn below_with(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut params = named(name);
        change(&mut params);
        let issuer = CertifiedIssuer::signed_by(params, key(), &self.issuer).unwrap();
        let mut between = vec![issuer.der().clone()];
        between.extend(self.between.iter().cloned());
        Self { issuer, between }
    }

    /// Returns its certificate.
    pub fn der(&self) -> CertificateDer<'static> {
        self.issuer.der().clone()
    }

    /// Makes a chain for a host, changed so.
    pub fn chain(&self, host: &str, change: impl FnOnce(&mut CertificateParams)) -> Chain {
        self.chain_with(host, key(), change)
    }

    /// Makes a chain of this key for a host, changed so.
    pub fn chain_with(&self, host: &str, key: KeyPair, change: impl FnOnce(&mut CertificateParams)) -> Chain {
        let mut params = CertificateParams::new([host.to_owned()]).unwrap();
        change(&mut params);
        let mut certificates = vec![params.signed_by(&key, &self.issuer).unwrap().der().clone()];
        certificates.extend(self.between.iter().cloned());
        Chain { certificates, key }
    }
}

/// Makes a certificate as a server that has no authority does.
pub fn self_signed(host: &str) -> Chain {
    let key = key();
    let certificate = CertificateParams::new([host.to_owned()]).unwrap().self_signed(&key).unwrap();
    Chain { certificates: vec![certificate.der().clone()], key }
}

/// Returns certificates as PEM.
pub fn certificates_pem(certificates: &[CertificateDer<'_>]) -> String {
    certificates.iter().map(|der| pem::encode(&pem::Pem::new("CERTIFICATE", der.as_ref()))).collect()
}

impl Chain {
    /// Makes a server with this chain, for these versions; `clients` is the authority whose certificates it demands of who connects.
    pub fn server(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        clients: Option<&Authority>,
    ) -> ServerConfig {
        let clients =
            clients.map_or_else(WebPkiClientVerifier::no_client_auth, |clients| demanded(clients, true));
        self.server_with(versions, clients, provider())
    }

    /// Makes one that asks for a certificate of these clients, and can do without.
    pub(super) fn asking_server(
        &self,
        version: &'static SupportedProtocolVersion,
        clients: &Authority,
    ) -> ServerConfig {
        self.server_with(&[version], demanded(clients, false), provider())
    }

    /// Makes one that does this arithmetic.
    pub(super) fn server_with(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        clients: Arc<dyn ClientCertVerifier>,
        provider: CryptoProvider,
    ) -> ServerConfig {
        server(self.certificates.clone(), signing_key(&self.key), versions, clients, provider)
    }
}

/// Returns a key as rustls has keys.
pub(super) fn signing_key(key: &KeyPair) -> Arc<dyn SigningKey> {
    let der = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    rustls::crypto::ring::sign::any_supported_type(&der).unwrap()
}

/// Verifies clients of this authority, all or those that show something.
fn demanded(clients: &Authority, all: bool) -> Arc<dyn ClientCertVerifier> {
    let mut roots = RootCertStore::empty();
    roots.add(clients.der()).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::new(provider()));
    let verifier = if all { verifier } else { verifier.allow_unauthenticated() };
    verifier.build().unwrap()
}

/// Makes a server that shows these certificates, whether they fit its key or not.
pub(super) fn server(
    certificates: Vec<CertificateDer<'static>>,
    key: Arc<dyn SigningKey>,
    versions: &[&'static SupportedProtocolVersion],
    clients: Arc<dyn ClientCertVerifier>,
    provider: CryptoProvider,
) -> ServerConfig {
    let builder = ServerConfig::builder_with_provider(Arc::new(provider));
    let builder = builder.with_protocol_versions(versions).unwrap().with_client_cert_verifier(clients);
    let shown = SingleCertAndKey::from(CertifiedKey::new(certificates, key));
    let mut config = builder.with_cert_resolver(Arc::new(shown));
    config.max_fragment_size = Some(SMALL_RECORDS);
    // Each session begins anew, as devices ask for it.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config
}

/// Makes a server that asks nobody for a certificate.
pub(super) fn server_of(
    certificates: Vec<CertificateDer<'static>>,
    key: Arc<dyn SigningKey>,
    version: &'static SupportedProtocolVersion,
) -> ServerConfig {
    server(certificates, key, &[version], WebPkiClientVerifier::no_client_auth(), provider())
}
