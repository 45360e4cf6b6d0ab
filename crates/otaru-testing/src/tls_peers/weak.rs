//! Certificates of a kind that no library here makes: OpenSSL 3.0 has made them, for a hundred years from 2026.

use std::fmt;
use std::io::Write as _;
use std::process::Stdio;
use std::sync::Arc;

use rcgen::KeyPair;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::sign::{Signer, SigningKey};
use rustls::{Error, SignatureAlgorithm, SignatureScheme};

use super::certificates::Chain;
use crate::programs::program;

/// Certificate in a file of the folder `weak`.
macro_rules! certificate {
    ($name:literal) => {
        CertificateDer::from_pem_slice(include_bytes!(concat!("weak/", $name, ".pem"))).unwrap()
    };
}

/// Returns the authority of them all, which has nothing weak about it.
pub(super) fn authority() -> CertificateDer<'static> {
    certificate!("ca")
}

/// Key of a leaf, on P-256.
fn leaf_key() -> KeyPair {
    KeyPair::from_pem(include_str!("weak/leaf.key.pem")).unwrap()
}

/// Returns a leaf that was signed over its SHA-1.
pub(super) fn sha_1() -> Chain {
    Chain { certificates: vec![certificate!("sha-1-leaf")], key: leaf_key() }
}

/// Returns a leaf of an authority with 1,024 bits of RSA.
pub(super) fn of_rsa_1024() -> Chain {
    Chain {
        certificates: vec![certificate!("leaf-of-rsa-1024-ca"), certificate!("rsa-1024-ca")],
        key: leaf_key(),
    }
}

/// Returns a leaf with 1,024 bits of RSA.
pub(super) fn rsa_1024() -> CertificateDer<'static> {
    certificate!("rsa-1024-leaf")
}

/// File with its key.
const RSA_1024: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/tls_peers/weak/rsa-1024.key.pem");

/// Key of [`rsa_1024`], with which OpenSSL signs: rustls takes none that is so short.
#[derive(Debug)]
pub(super) struct Rsa1024;

impl SigningKey for Rsa1024 {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        let known = [SignatureScheme::RSA_PSS_SHA256, SignatureScheme::RSA_PKCS1_SHA256];
        let scheme = known.into_iter().find(|scheme| offered.contains(scheme))?;
        Some(Box::new(OpenSsl { scheme }))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::RSA
    }
}

/// Returns the key as rustls has keys.
pub(super) fn rsa_1024_key() -> Arc<dyn SigningKey> {
    Arc::new(Rsa1024)
}

/// Signature by OpenSSL.
struct OpenSsl {
    scheme: SignatureScheme,
}

impl fmt::Debug for OpenSsl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OpenSsl")
    }
}

impl Signer for OpenSsl {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let mut command = program("openssl");
        command.args(["dgst", "-sha256", "-sign", RSA_1024]);
        if self.scheme == SignatureScheme::RSA_PSS_SHA256 {
            command.args(["-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:digest"]);
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(message).unwrap();
        let signed = child.wait_with_output().unwrap();
        assert!(signed.status.success(), "openssl does not sign");
        Ok(signed.stdout)
    }

    fn scheme(&self) -> SignatureScheme {
        self.scheme
    }
}
