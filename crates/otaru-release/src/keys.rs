//! Ed25519 keys (RFC 8032) in PEM files: PKCS#8 for the private one (RFC 8410, section 7), SPKI for the public one
//! (RFC 8410, section 4). `openssl pkey` reads both.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use ed25519_dalek::pkcs8::spki::DecodePublicKey as _;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{
    DecodePrivateKey as _, EncodePrivateKey as _, EncodePublicKey as _, KeypairBytes,
};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use otaru_format::release::{KeyId, SIGNATURE_LEN};
use zeroize::Zeroizing;

use crate::output::{self, Access, Existing};

/// No key file is larger.
const LARGEST: u64 = 16 * 1024;

/// A private key. Its bytes are overwritten when it is dropped and are in no `Debug` output.
pub struct SecretKey(SigningKey);

/// A public key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

/// Why a key cannot be had or written.
#[derive(Debug)]
#[non_exhaustive]
pub enum KeyError {
    /// The file cannot be read.
    Read(PathBuf, io::Error),
    /// The file cannot be written.
    Write(PathBuf, io::Error),
    /// A file is there already.
    Exists(PathBuf),
    /// The file is no such key; with what it is or what to do.
    NotAKey(PathBuf, &'static str),
    /// The system has no random numbers.
    NoRandomness,
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(path, error) => write!(f, "cannot read the key {}: {error}", path.display()),
            Self::Write(path, error) => write!(f, "cannot write the key {}: {error}", path.display()),
            Self::Exists(path) => {
                write!(
                    f,
                    "{} is there already; losing a key means that devices must be flashed by cable, so choose another name or say --force",
                    path.display()
                )
            }
            Self::NotAKey(path, what) => write!(f, "{}: {what}", path.display()),
            Self::NoRandomness => f.write_str("the system gives no random numbers, so no key can be made"),
        }
    }
}

impl std::error::Error for KeyError {}

impl SecretKey {
    /// Makes a new key from the system's random numbers.
    ///
    /// # Errors
    /// Returns [`KeyError::NoRandomness`] if the system has none.
    pub fn generate() -> Result<Self, KeyError> {
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *seed).map_err(|_| KeyError::NoRandomness)?;
        Ok(Self::from_seed(&seed))
    }

    /// The key of a seed (RFC 8032, section 5.1.5), which must be random unless the key is for a test.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// Reads a PEM file.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read, or is not an unencrypted Ed25519 private key.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let pem = read_pem(path)?;
        SigningKey::from_pkcs8_pem(&pem)
            .map(Self)
            .map_err(|_| KeyError::NotAKey(path.to_owned(), instead_of_private(&pem)))
    }

    /// Writes a PEM file that only its owner can read.
    ///
    /// # Errors
    /// Returns [`KeyError::Exists`] if the file exists and is to be kept, [`KeyError::Write`] if it cannot be written.
    pub fn write(&self, path: &Path, existing: Existing) -> Result<(), KeyError> {
        // Without the public half, which older openssl does not know at this place.
        let mut pair = KeypairBytes { secret_key: self.0.to_bytes(), public_key: None };
        let pem = pair.to_pkcs8_pem(LineEnding::LF);
        zeroize::Zeroize::zeroize(&mut pair.secret_key);
        let pem = pem.map_err(|error| KeyError::Write(path.to_owned(), io::Error::other(error)))?;
        write(path, pem.as_bytes(), Access::Private, existing)
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }

    /// Signs.
    pub(crate) fn sign(&self, message: &[u8]) -> [u8; SIGNATURE_LEN] {
        self.0.sign(message).to_bytes()
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey({}, …)", self.public().id())
    }
}

/// Whether devices take this key: not of small order, and written in the one way that counts.
fn is_of_use(key: &VerifyingKey) -> bool {
    !key.is_weak() && key.to_edwards().compress().as_bytes() == key.as_bytes()
}

impl PublicKey {
    /// The key of 32 bytes (RFC 8032, section 5.1.5); `None` when they are no point of the curve, or one of the few
    /// that anybody can sign for.
    pub fn from_bytes(bytes: &[u8; 32]) -> Option<Self> {
        VerifyingKey::from_bytes(bytes).ok().filter(is_of_use).map(Self)
    }

    /// The 32 bytes, which devices are given.
    pub fn to_bytes(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    /// Reads a PEM file.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read, or is not an Ed25519 public key that devices accept.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let pem = read_pem(path)?;
        let key = VerifyingKey::from_public_key_pem(&pem).ok().filter(is_of_use);
        key.map(Self).ok_or_else(|| KeyError::NotAKey(path.to_owned(), instead_of_public(&pem)))
    }

    /// Writes a PEM file.
    ///
    /// # Errors
    /// Returns [`KeyError::Exists`] if the file exists and is to be kept, [`KeyError::Write`] if it cannot be written.
    pub fn write(&self, path: &Path, existing: Existing) -> Result<(), KeyError> {
        let pem = self.0.to_public_key_pem(LineEnding::LF);
        let pem = pem.map_err(|error| KeyError::Write(path.to_owned(), io::Error::other(error)))?;
        write(path, pem.as_bytes(), Access::Usual, existing)
    }

    /// Key id.
    pub fn id(&self) -> KeyId {
        KeyId::of(self.0.as_bytes())
    }

    /// Whether the signature is good. Strict: one that only some implementations take is not.
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8; SIGNATURE_LEN]) -> bool {
        self.0.verify_strict(message, &Signature::from_bytes(signature)).is_ok()
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.id())
    }
}

fn read_pem(path: &Path) -> Result<Zeroizing<String>, KeyError> {
    use std::io::Read as _;
    let failed = |error| KeyError::Read(path.to_owned(), error);
    let file = std::fs::File::open(path).map_err(failed)?;
    // Room for all of it at once: a string that grew would leave its old bytes behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(LARGEST as usize + 1));
    file.take(LARGEST).read_to_end(&mut bytes).map_err(failed)?;
    match std::str::from_utf8(&bytes) {
        Ok(text) => Ok(Zeroizing::new(text.to_owned())),
        Err(_) => Err(KeyError::NotAKey(path.to_owned(), "not a PEM file")),
    }
}

fn write(path: &Path, pem: &[u8], access: Access, existing: Existing) -> Result<(), KeyError> {
    output::write(path, pem, access, existing).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => KeyError::Exists(path.to_owned()),
        _ => KeyError::Write(path.to_owned(), error),
    })
}

fn instead_of_private(pem: &str) -> &'static str {
    if pem.contains("BEGIN ENCRYPTED PRIVATE KEY") {
        "the key is encrypted; `openssl pkey -in FILE -out PLAIN.pem` decrypts it"
    } else if pem.contains("BEGIN PUBLIC KEY") {
        "this is a public key; signing needs the private one"
    } else if pem.contains("PRIVATE KEY") {
        "this private key is not Ed25519; `otaru keygen` or `openssl genpkey -algorithm ed25519` makes one that is"
    } else {
        "not a private key in PEM; `otaru keygen` makes one"
    }
}

fn instead_of_public(pem: &str) -> &'static str {
    if pem.contains("PRIVATE KEY") {
        "this is a private key; the public one is in the .pub.pem file beside it, or `openssl pkey -in FILE -pubout` prints it"
    } else if pem.contains("BEGIN PUBLIC KEY") {
        "this public key is not Ed25519, or a weak one"
    } else {
        "not a public key in PEM; `otaru keygen` makes a .pub.pem file"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_lead_back_through_files() {
        let dir = tempfile::tempdir().unwrap();
        let (private, public) = (dir.path().join("k.pem"), dir.path().join("k.pub.pem"));
        let key = SecretKey::generate().unwrap();
        key.write(&private, Existing::Keep).unwrap();
        key.public().write(&public, Existing::Keep).unwrap();
        assert_eq!(SecretKey::read(&private).unwrap().public(), key.public());
        assert_eq!(PublicKey::read(&public).unwrap(), key.public());
        assert!(matches!(key.write(&private, Existing::Keep), Err(KeyError::Exists(_))));
        assert!(SecretKey::read(&public).unwrap_err().to_string().contains("public key"));
        assert!(PublicKey::read(&private).unwrap_err().to_string().contains("private key"));
    }

    #[test]
    fn nothing_of_a_private_key_is_shown() {
        let seed = [0xAB; 32];
        let shown = format!("{:?}", SecretKey::from_seed(&seed));
        assert!(!shown.to_lowercase().contains("abab") && !shown.contains("171"), "{shown}");
    }

    #[test]
    fn weak_keys_are_refused() {
        // The neutral element: every signature of a certain form fits it.
        let mut neutral = [0; 32];
        neutral[0] = 1;
        assert_eq!(PublicKey::from_bytes(&neutral), None);
    }
}
