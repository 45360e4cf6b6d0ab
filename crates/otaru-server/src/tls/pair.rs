//! A certificate with its key, read from two files and held against each other.

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::error::TlsError;
use super::facts::Facts;

/// Bytes of the largest file; a chain has a few thousand.
const LARGEST: u64 = 256 * 1024;

/// Files of a certificate and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PairFiles {
    /// PEM file of the server's certificate, and of those that signed it.
    pub certificate: PathBuf,
    /// PEM file of its private key.
    pub key: PathBuf,
}

/// A certificate with its key.
#[derive(Clone)]
pub struct Pair {
    pub(super) certified: Arc<CertifiedKey>,
    /// Facts of the certificate.
    pub facts: Facts,
}

/// The key is nobody's to see.
impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pair").field("facts", &self.facts).finish_non_exhaustive()
    }
}

impl PairFiles {
    /// Reads both.
    ///
    /// # Errors
    /// When one cannot be read, or they do not fit each other.
    pub fn read(&self) -> Result<Pair, TlsError> {
        let chain = certificates(&self.certificate)?;
        let key = key(&self.key)?;
        let signing = ring::sign::any_supported_type(&key);
        let signing = signing.map_err(|_| TlsError::UnusableKey(self.key.clone()))?;
        let facts = chain.first().map(|own| Facts::read(own));
        let facts = facts.ok_or_else(|| TlsError::NoCertificate(self.certificate.clone()))?;
        let facts = facts.map_err(|error| self.damaged(&error))?;
        let certified = CertifiedKey::new(chain, signing);
        match certified.keys_match() {
            Ok(()) => Ok(Pair { certified: Arc::new(certified), facts }),
            Err(rustls::Error::InconsistentKeys(_)) => {
                Err(TlsError::Mismatch { certificate: self.certificate.clone(), key: self.key.clone() })
            }
            Err(error) => Err(self.damaged(&error)),
        }
    }

    /// Whether others than the owner and its group may read the key.
    pub fn is_key_open_to_others(&self) -> bool {
        is_open_to_others(&self.key)
    }

    fn damaged(&self, why: &dyn fmt::Display) -> TlsError {
        TlsError::Damaged { path: self.certificate.clone(), why: why.to_string() }
    }
}

/// Reads the certificates of a PEM file; there is at least one.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match found {
        Ok(found) if found.is_empty() => Err(TlsError::NoCertificate(path.to_owned())),
        Ok(found) => Ok(found),
        Err(error) => Err(TlsError::Damaged { path: path.to_owned(), why: error.to_string() }),
    }
}

fn key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let text = zeroize::Zeroizing::new(read(path)?);
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| match error {
        rustls::pki_types::pem::Error::NoItemsFound => TlsError::NoKey(path.to_owned()),
        other => TlsError::Damaged { path: path.to_owned(), why: other.to_string() },
    })
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let failed = |error| TlsError::Read { path: path.to_owned(), error };
    let mut text = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(LARGEST + 1).read_to_end(&mut text).map_err(failed)?;
    match text.len() as u64 > LARGEST {
        true => Err(TlsError::TooLarge(path.to_owned())),
        false => Ok(text),
    }
}

#[cfg(unix)]
fn is_open_to_others(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    // A group is how certbot and the like let a server read it.
    path.metadata().is_ok_and(|found| found.permissions().mode() & 0o007 != 0)
}

#[cfg(not(unix))]
fn is_open_to_others(_: &Path) -> bool {
    false
}
