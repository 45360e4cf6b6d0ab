//! Whom a device trusts, and what it shows of itself.
#![forbid(unsafe_code)]

use core::ffi::CStr;
use core::fmt;

use mbedtls_rs::{Certificate, Credentials, PrivateKey, SessionError, X509};
use otaru_device::format::status::CaIds;
use pem_rfc7468::LineEnding;

use crate::reason::is_memory;

/// Largest number of CAs: four that a person has set, four of one's own that are built in, and six public roots beside them.
pub const MOST_CAS: usize = 14;

/// Certificate of a device and its key, as DER.
#[derive(Clone, Copy)]
pub struct Identity<'a> {
    /// Certificate.
    pub certificate: &'a [u8],
    /// Key: PKCS#8, or as SEC 1 has it.
    pub key: &'a [u8],
}

impl fmt::Debug for Identity<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity")
    }
}

/// CAs that are trusted, and the device's own certificate. They take memory of the heap as long as they are there.
pub struct Trust {
    cas: Certificate<'static>,
    names: CaIds,
    identity: Option<Credentials<'static>>,
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trust").field("identity", &self.identity.is_some()).finish_non_exhaustive()
    }
}

/// Reason that certificates cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrustError {
    /// There is no CA.
    Empty,
    /// There are more than [`MOST_CAS`].
    TooMany,
    /// The CA of this number, from 1, is no certificate, or has a key or signature that this firmware does not know.
    Ca(usize),
    /// The device's certificate is none, or has such a key.
    Certificate,
    /// The device's key is none, or of a kind that this firmware does not know.
    Key,
    /// Memory is short.
    Memory,
}

impl fmt::Display for TrustError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("there is no CA to trust"),
            Self::TooMany => write!(f, "there are more CAs than {MOST_CAS}"),
            Self::Ca(number) => write!(
                f,
                "CA {number} is no certificate, or has a kind of key or signature that this firmware does not know"
            ),
            Self::Certificate => f.write_str(
                "the device's certificate is none, or has a kind of key or signature that this firmware does not know",
            ),
            Self::Key => {
                f.write_str("the device's key is none, or of a kind that this firmware does not know")
            }
            Self::Memory => f.write_str("not enough free memory for certificates"),
        }
    }
}

impl core::error::Error for TrustError {}

impl Trust {
    /// Reads CAs, as DER, those of one's own first, and what the device shows to a server that asks. A certificate that a server has made itself may be one of the
    /// CAs.
    ///
    /// # Errors
    /// Returns an error if there is none, or one that cannot be used.
    pub fn new(cas: &[&[u8]], identity: Option<Identity<'_>>) -> Result<Self, TrustError> {
        if cas.len() > MOST_CAS {
            return Err(TrustError::TooMany);
        }
        check_cas(cas)?;
        // One's own come first, and those are what a change of CAs is about.
        let names = CaIds::of(cas.iter().copied().take(CaIds::MOST));
        let cas = chain(cas)?;
        Ok(Self { cas, names, identity: identity.map(credentials).transpose()? })
    }

    /// CAs.
    pub(crate) fn cas(&self) -> Certificate<'static> {
        self.cas.clone()
    }

    /// Names of the CAs, for reports.
    pub(crate) fn names(&self) -> &CaIds {
        &self.names
    }

    /// The device's own certificate.
    pub(crate) fn identity(&self) -> Option<Credentials<'static>> {
        self.identity.clone()
    }
}

/// Looks at certificates and a key that are to be kept, as [`Trust::new`] does; there may be no CA among them.
///
/// # Errors
/// Returns an error if there is one that cannot be used.
pub fn check(cas: &[&[u8]], identity: Option<Identity<'_>>) -> Result<(), TrustError> {
    check_cas(cas)?;
    identity.map(credentials).transpose()?;
    Ok(())
}

fn check_cas(cas: &[&[u8]]) -> Result<(), TrustError> {
    for (index, ca) in cas.iter().enumerate() {
        certificate(X509::DER(ca), TrustError::Ca(index + 1))?;
    }
    Ok(())
}

fn certificate(x509: X509<'_>, error: TrustError) -> Result<Certificate<'static>, TrustError> {
    Certificate::new(x509).map_err(|reason| if is_memory(reason.code()) { TrustError::Memory } else { error })
}

/// One list of several CAs, all of which were read before: the library takes several at once as PEM only.
fn chain(cas: &[&[u8]]) -> Result<Certificate<'static>, TrustError> {
    let [first, ..] = cas else { return Err(TrustError::Empty) };
    if cas.len() == 1 {
        return certificate(X509::DER(first), TrustError::Ca(1));
    }
    let mut text = alloc::string::String::new();
    for (index, ca) in cas.iter().enumerate() {
        let pem = pem_rfc7468::encode_string("CERTIFICATE", LineEnding::LF, ca);
        text.push_str(&pem.map_err(|_| TrustError::Ca(index + 1))?);
    }
    text.push('\0');
    let text = CStr::from_bytes_with_nul(text.as_bytes()).map_err(|_| TrustError::Ca(1))?;
    certificate(X509::PEM(text), TrustError::Memory)
}

fn credentials(identity: Identity<'_>) -> Result<Credentials<'static>, TrustError> {
    let certificate = certificate(X509::DER(identity.certificate), TrustError::Certificate)?;
    let private_key = PrivateKey::new(X509::DER(identity.key), None).map_err(|error| match error {
        SessionError::MbedTls(error) if is_memory(error.code()) => TrustError::Memory,
        _ => TrustError::Key,
    })?;
    Ok(Credentials { certificate, private_key })
}
