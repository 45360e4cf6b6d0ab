//! Reasons that certificates or keys cannot be used.

use rustls::client::VerifierBuilderError;
use rustls::pki_types::pem;

/// Reason that certificates cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrustError {
    /// The text is no PEM, or damaged.
    #[error("it is damaged: {0}")]
    Pem(#[from] pem::Error),
    /// No certificate in it.
    #[error("there is no certificate in it (-----BEGIN CERTIFICATE-----)")]
    NoCertificate,
    /// No private key in it.
    #[error("there is no private key without a passphrase in it (-----BEGIN PRIVATE KEY-----)")]
    NoKey,
    /// A certificate or key that TLS does not take, or a key that is another certificate's.
    #[error("a certificate or key cannot be used: {0}")]
    Tls(#[from] rustls::Error),
    /// CAs by which nothing can be verified.
    #[error("nothing can be verified with it: {0}")]
    Verifier(#[from] VerifierBuilderError),
    /// No roots on this system.
    #[error(
        "this system has no root certificates (Debian: apt-get install ca-certificates); --ca FILE names one"
    )]
    NoRoots,
}
