//! An authority of the scenes' own, and the certificates that it gives to servers: EC keys on P-256, as chips verify them quickest.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

/// Files of a certificate and its key.
pub(super) struct Pair {
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
}

/// Files in `folder` that [`Authority::sign`] writes under this name.
pub(super) fn pair(folder: &Path, name: &str) -> Pair {
    Pair { certificate: folder.join(format!("{name}.pem")), key: folder.join(format!("{name}.key")) }
}

/// Certificate authority.
pub(super) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(super) fn new(name: &str) -> Result<Self> {
        let mut params = CertificateParams::new([])?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Ok(Self(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?))
    }

    /// Certificate of its own, as PEM text.
    pub(super) fn pem(&self) -> String {
        self.0.pem()
    }

    /// Signs a certificate for these hosts, and writes it and its key.
    pub(super) fn sign(&self, folder: &Path, name: &str, hosts: &[&str]) -> Result<()> {
        let key = KeyPair::generate()?;
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let certificate = CertificateParams::new(hosts)?.signed_by(&key, &self.0)?;
        let files = pair(folder, name);
        fs::write(files.certificate, certificate.pem())?;
        Ok(fs::write(files.key, key.serialize_pem())?)
    }
}
