//! Names of signing keys.

use core::fmt;
use core::str::FromStr;

use crate::digest::Digest;

/// Names a key: the first 8 bytes of the SHA-256 of the 32-byte public key; shown as 16 hexadecimal digits.
///
/// It finds a key, it proves nothing: only the signature does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub [u8; 8]);

impl KeyId {
    /// The id of an Ed25519 public key (RFC 8032, section 5.1.5).
    pub fn of(public: &[u8; 32]) -> Self {
        let [a, b, c, d, e, f, g, h, ..] = Digest::of(public).0;
        Self([a, b, c, d, e, f, g, h])
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

/// The text is not 16 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadKeyId;

impl fmt::Display for BadKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key id is 16 hexadecimal digits, as `otaru keygen` and `otaru inspect` print them")
    }
}

impl core::error::Error for BadKeyId {}

impl FromStr for KeyId {
    type Err = BadKeyId;

    fn from_str(text: &str) -> Result<Self, BadKeyId> {
        let digits: &[u8; 16] = text.as_bytes().try_into().map_err(|_| BadKeyId)?;
        let nibble = |digit: u8| char::from(digit).to_digit(16).map(|d| d as u8).ok_or(BadKeyId);
        let mut id = Self([0; 8]);
        for (byte, pair) in id.0.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
        }
        Ok(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString as _;

    #[test]
    fn text_leads_back() {
        let id = KeyId::of(&[0; 32]);
        // sha256 of 32 zero bytes begins so.
        assert_eq!(id.to_string(), "66687aadf862bd77");
        assert_eq!(id.to_string().parse(), Ok(id));
        for bad in ["", "66687aadf862bd7", "66687aadf862bd7g", "66687aadf862bd770"] {
            assert_eq!(bad.parse::<KeyId>(), Err(BadKeyId), "{bad}");
        }
    }
}
