//! Settings: for which domains certificates are got, and from whom.

use otaru_tls::Trust;

use super::domain::Domain;

/// Settings of certificates from a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcmeConfig {
    /// Domains of the certificate, at least one and [`MOST_DOMAINS`](super::MOST_DOMAINS) at most.
    pub domains: Vec<Domain>,
    /// Address at which the directory may write to the operator; it is told with a new account.
    pub email: Option<String>,
    /// URL of the directory, `https://`.
    pub directory: String,
    /// CAs that the directory may be of.
    pub trust: Trust,
}
