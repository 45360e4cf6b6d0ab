//! An authority of the scenes' own, and the certificates that it gives to servers: EC keys on P-256, as chips verify them quickest.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, PKCS_ECDSA_P384_SHA384,
};

use crate::emulate::peers::sha256;

/// Digits of a CA's name in reports.
const ID: usize = 16;

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
    /// Returns one with a key as the firmwares know it.
    pub(super) fn new(name: &str) -> Result<Self> {
        Self::with_key(name, KeyPair::generate()?)
    }

    /// Returns one whose key is on another curve than those of the scenes.
    pub(super) fn on_p384(name: &str) -> Result<Self> {
        Self::with_key(name, KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384)?)
    }

    fn with_key(name: &str, key: KeyPair) -> Result<Self> {
        let mut params = CertificateParams::new([])?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Ok(Self(CertifiedIssuer::self_signed(params, key)?))
    }

    /// Certificate of its own, as PEM text.
    pub(super) fn pem(&self) -> String {
        self.0.pem()
    }

    /// Returns the name of its certificate, as reports have it.
    pub(super) fn id(&self) -> String {
        sha256(self.0.der()).chars().take(ID).collect()
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
