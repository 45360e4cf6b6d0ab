//! Errors of certificates and keys, which say what to do.

use std::io;
use std::path::PathBuf;

/// Reasons for which TLS cannot be spoken with what was given.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {}: {error}; is the path right, and may this user read the file?", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        error: io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write in {}: {error}; is there room, and is the folder this user's?", folder.display())]
    Write {
        /// The folder.
        folder: PathBuf,
        /// The system's reason.
        error: io::Error,
    },
    /// A file is larger than any that makes sense.
    #[error("{} is too large for certificates or a key", .0.display())]
    TooLarge(PathBuf),
    /// A file has no certificate.
    #[error("{} has no certificate: it should begin with -----BEGIN CERTIFICATE-----; is it the key?", .0.display())]
    NoCertificate(PathBuf),
    /// A file has no key.
    #[error(
        "{} has no private key that can be read: it should begin with -----BEGIN PRIVATE KEY-----; one with a password is \
         written without it by `openssl pkey -in KEY -out NEW`",
        .0.display()
    )]
    NoKey(PathBuf),
    /// A file is damaged.
    #[error("{} is damaged: {why}; copy it again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The first fault.
        why: String,
    },
    /// A key is of a kind that is not spoken.
    #[error("the key in {} cannot be used: take EC P-256 or P-384, Ed25519, or RSA of 2048 to 8192 bits", .0.display())]
    UnusableKey(PathBuf),
    /// Certificate and key are two things.
    #[error(
        "the key in {} is not that of the certificate in {}: the server's own certificate comes first in its file, those \
         that signed it after it",
        key.display(), certificate.display()
    )]
    Mismatch {
        /// File of certificates.
        certificate: PathBuf,
        /// File of the key.
        key: PathBuf,
    },
    /// The library refuses what was given.
    #[error("TLS cannot be set up: {0}")]
    Setup(String),
}
