//! Domains that a directory gives certificates for: names of DNS, and nothing else.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Characters of the longest name of DNS, and of its longest part.
const LONGEST: (usize, usize) = (253, 63);

/// Name of DNS, in small letters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Domain(String);

/// Text that no certificate is got for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DomainError {
    /// A wildcard.
    #[error(
        "a wildcard is proven by records of DNS, which is not done here; name each host with an --acme of its own"
    )]
    Wildcard,
    /// An address.
    #[error("a certificate is got for a name, not for an address; give the address a name in DNS")]
    Address,
    /// Something else.
    #[error(
        "a domain has letters, digits and hyphens with dots between, such as ota.example.com; other letters are written as xn--"
    )]
    NotAName,
}

impl Domain {
    /// Returns its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Domain {
    type Err = DomainError;

    fn from_str(text: &str) -> Result<Self, DomainError> {
        if text.starts_with("*.") {
            return Err(DomainError::Wildcard);
        }
        let bare = text.trim_start_matches('[').trim_end_matches(']');
        if bare.parse::<IpAddr>().is_ok() {
            return Err(DomainError::Address);
        }
        match text.len() <= LONGEST.0 && text.split('.').all(is_label) {
            true => Ok(Self(text.to_ascii_lowercase())),
            false => Err(DomainError::NotAName),
        }
    }
}

fn is_label(label: &str) -> bool {
    let is_edge = |hyphen: bool| hyphen && (label.starts_with('-') || label.ends_with('-'));
    !label.is_empty()
        && label.len() <= LONGEST.1
        && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && !is_edge(label.contains('-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_is_a_name_and_neither_a_wildcard_nor_an_address() {
        assert_eq!("OTA.Example.com".parse::<Domain>().unwrap().as_str(), "ota.example.com");
        let longest = ["a"; 127].join(".");
        assert!(longest.parse::<Domain>().is_ok());
        for (text, error) in [
            ("*.example.com", DomainError::Wildcard),
            ("192.0.2.1", DomainError::Address),
            ("[2001:db8::1]", DomainError::Address),
            ("2001:db8::1", DomainError::Address),
            ("", DomainError::NotAName),
            ("example.com.", DomainError::NotAName),
            ("a..b", DomainError::NotAName),
            ("-a.b", DomainError::NotAName),
            ("bücher.example", DomainError::NotAName),
            ("https://example.com", DomainError::NotAName),
            ("a_b.example", DomainError::NotAName),
            (&format!("{longest}.a"), DomainError::NotAName),
            (&format!("{}.example", "a".repeat(64)), DomainError::NotAName),
        ] {
            assert_eq!(text.parse::<Domain>(), Err(error), "{text}");
        }
    }
}
