//! Public roots that `ca = "public"` stands for: a handful that carry the places where firmware is commonly kept.
//!
//! They are named here, by name and fingerprint, and taken from Mozilla's list as `webpki-root-certs` keeps it: one that is no longer
//! there is not built in.

use std::fmt;

use sha2::{Digest as _, Sha256};
use webpki_root_certs::TLS_SERVER_ROOT_CERTS;

/// Root of a public certificate authority.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublicRoot {
    /// Common name.
    pub name: &'static str,
    /// SHA-256 of the certificate, in hexadecimal digits.
    pub fingerprint: &'static str,
}

/// Roots of `ca = "public"`: of Let's Encrypt, Google, Amazon and Sectigo, by which GitHub (releases lie at `*.githubusercontent.com`), S3
/// and CloudFront, Cloudflare, and Google's storage are reached, with RSA and with EC.
pub const ROOTS: [PublicRoot; 6] = [
    root("ISRG Root X1", "96bcec06264976f37460779acf28c5a7cfe8a3c0aae11a8ffcee05c0bddf08c6"),
    root("ISRG Root X2", "69729b8e15a86efc177a57afb7171dfc64add28c2fca8cf1507e34453ccb1470"),
    root("GTS Root R1", "d947432abde7b7fa90fc2e6b59101b1280e0e1c7e4e40fa3c6887fff57a7f4cf"),
    root("GTS Root R4", "349dfa4058c5e263123b398ae795573c4e1313c83fe68f93556cd5e8031b3c7d"),
    root("Amazon Root CA 1", "8ecde6884f3d87b1125ba31ac3fcb13d7016de7f57cc904fe1cb97c6ae98196e"),
    root(
        "Sectigo Public Server Authentication Root E46",
        "c90f26f0fb1b4018b22227519b5ca2b53e2ca5b3be5cf18efe1bef47380c5383",
    ),
];

const fn root(name: &'static str, fingerprint: &'static str) -> PublicRoot {
    PublicRoot { name, fingerprint }
}

/// Error of a root that Mozilla's list no longer has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Withdrawn(PublicRoot);

impl fmt::Display for Withdrawn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PublicRoot { name, fingerprint } = self.0;
        write!(
            f,
            "the public root {name:?} ({fingerprint}) is no longer among Mozilla's: name the CAs that you trust as PEM text \
             instead of \"public\""
        )
    }
}

impl std::error::Error for Withdrawn {}

impl PublicRoot {
    /// Returns the certificate, as DER.
    ///
    /// # Errors
    /// Returns an error if it is no longer among those that Mozilla trusts.
    pub fn certificate(self) -> Result<&'static [u8], Withdrawn> {
        let mut all = TLS_SERVER_ROOT_CERTS.iter().map(AsRef::<[u8]>::as_ref);
        all.find(|der| fingerprint(der) == self.fingerprint).ok_or(Withdrawn(self))
    }
}

/// Returns the certificates of [`ROOTS`], as DER.
///
/// # Errors
/// Returns an error if one of them is no longer among those that Mozilla trusts.
pub fn certificates() -> Result<Vec<Vec<u8>>, Withdrawn> {
    ROOTS.into_iter().map(|root| root.certificate().map(<[u8]>::to_vec)).collect()
}

/// SHA-256 in hexadecimal digits.
fn fingerprint(der: &[u8]) -> String {
    Sha256::digest(der).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use x509_parser::prelude::{FromDer as _, X509Certificate};

    use super::*;

    #[test]
    fn each_root_is_a_ca_that_has_not_expired_and_has_the_name_it_is_given() {
        for root in ROOTS {
            let der = root.certificate().unwrap();
            let (rest, certificate) = X509Certificate::from_der(der).unwrap();
            assert_eq!(rest, b"", "{}", root.name);
            let names = certificate.subject().iter_common_name().map(|name| name.as_str().unwrap());
            assert_eq!(names.collect::<Vec<_>>(), [root.name]);
            assert!(certificate.is_ca(), "{}", root.name);
            assert_eq!(certificate.subject(), certificate.issuer(), "{}", root.name);
            assert!(certificate.validity().is_valid(), "{} is not valid now", root.name);
        }
    }

    #[test]
    fn no_root_is_there_twice() {
        let found = certificates().unwrap();
        for (index, der) in found.iter().enumerate() {
            assert!(!found[..index].contains(der), "{}", ROOTS[index].name);
        }
    }

    #[test]
    fn a_root_that_is_no_longer_kept_is_told_by_name() {
        let gone = root("Old Root", "00");
        let said = gone.certificate().unwrap_err().to_string();
        assert!(said.contains("\"Old Root\" (00)") && said.contains("PEM text"), "{said}");
    }

    #[test]
    fn the_documentation_has_each_root_with_its_fingerprint() {
        let text = include_str!("../../../docs/firmware.md");
        for PublicRoot { name, fingerprint } in ROOTS {
            assert!(text.contains(&format!("| {name} | `{fingerprint}` |")), "{name}");
        }
    }
}
