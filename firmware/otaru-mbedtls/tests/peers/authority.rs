//! Authorities and the certificates that they give.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};

/// Certificate authority, and the certificates between it and what it signs.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    between: Vec<CertificateDer<'static>>,
}

/// Chain and its key.
pub(crate) struct Chain {
    pub(crate) certificates: Vec<CertificateDer<'static>>,
    pub(crate) key: KeyPair,
}

fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new([]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

pub(crate) fn key() -> KeyPair {
    KeyPair::generate().unwrap()
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        Self::with_key(name, key())
    }

    pub(crate) fn with_key(name: &str, key: KeyPair) -> Self {
        let mut params = named(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self { issuer: CertifiedIssuer::self_signed(params, key).unwrap(), between: Vec::new() }
    }

    /// Authority below this one; or something that says it is none, and signs all the same.
    pub(crate) fn below(&self, name: &str, is_ca: IsCa) -> Self {
        self.below_with(name, |params| params.is_ca = is_ca)
    }

    pub(crate) fn below_with(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut params = named(name);
        change(&mut params);
        let issuer = CertifiedIssuer::signed_by(params, key(), &self.issuer).unwrap();
        let mut between = vec![issuer.der().clone()];
        between.extend(self.between.iter().cloned());
        Self { issuer, between }
    }

    pub(crate) fn der(&self) -> Vec<u8> {
        self.issuer.der().to_vec()
    }

    /// Chain for a host, as changed.
    pub(crate) fn chain(&self, host: &str, change: impl FnOnce(&mut CertificateParams)) -> Chain {
        self.chain_with(host, key(), change)
    }

    pub(crate) fn chain_with(
        &self,
        host: &str,
        key: KeyPair,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Chain {
        let mut params = CertificateParams::new([host.to_owned()]).unwrap();
        change(&mut params);
        let mut certificates = vec![params.signed_by(&key, &self.issuer).unwrap().der().clone()];
        certificates.extend(self.between.iter().cloned());
        Chain { certificates, key }
    }
}

/// Certificate that a server has made itself.
pub(crate) fn self_signed(host: &str) -> Chain {
    let key = key();
    let certificate = CertificateParams::new([host.to_owned()]).unwrap().self_signed(&key).unwrap();
    Chain { certificates: vec![certificate.der().clone()], key }
}

impl Chain {
    /// Server with this chain, for these versions; `clients` are the authorities whose certificates it wants of who connects.
    pub(crate) fn server(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        clients: Option<&Authority>,
    ) -> ServerConfig {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder.with_protocol_versions(versions).unwrap();
        let builder = match clients {
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                roots.add(authority.issuer.der().clone()).unwrap();
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
            None => builder.with_no_client_auth(),
        };
        let key = PrivatePkcs8KeyDer::from(self.key.serialize_der()).into();
        let mut config = builder.with_single_cert(self.certificates.clone(), key).unwrap();
        // As servers of Otaru do.
        config.max_fragment_size = Some(4096);
        config
    }
}
