//! TLS of a device and of its host, by an authority of their own.

use std::sync::Arc;

use otaru_sim::lab::HostConfig;
use otaru_sim::tls::HostTls;
use otaru_tls::Trust;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};

/// A certificate authority.
pub(crate) struct Authority(pub(crate) CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// TLS of a device that trusts it.
    pub(crate) fn trusted(&self) -> HostTls {
        HostTls::new(Trust::of_pem(self.0.pem().as_bytes()).unwrap())
    }

    /// TLS of a host with these names.
    pub(crate) fn host(&self, names: &[&str]) -> HostConfig {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &self.0).unwrap();
        host(vec![certificate.der().clone()], &key)
    }
}

fn host(chain: Vec<CertificateDer<'static>>, key: &KeyPair) -> HostConfig {
    let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    Arc::new(builder.with_no_client_auth().with_single_cert(chain, key).unwrap())
}
