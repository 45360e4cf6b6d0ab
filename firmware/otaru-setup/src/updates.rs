//! Public keys as a person copies them.

use otaru_device::BadKey;
pub use otaru_device::PublicKey;

/// Why a text is no key that a device can trust.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoKey {
    /// It has none of the forms.
    Form,
    /// It names a file.
    Path,
    /// It is a private key.
    Private,
    /// It is a key of another kind: RSA, an elliptic curve of NIST's, X25519, Ed448, or OpenSSH's form.
    OtherKind,
    /// The bytes are none that a device can use.
    Bad(BadKey),
}

impl std::fmt::Display for NoKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Form => f.write_str(
                "a key is an Ed25519 public key: 64 hexadecimal digits, 44 letters of base64, or a PEM text",
            ),
            Self::Path => f.write_str(
                "this names a file: write what is in it, or what `otaru keygen` printed as public key",
            ),
            Self::Private => f.write_str(
                "this is a private key, which belongs into no firmware: write what `otaru keygen` printed as public key",
            ),
            Self::OtherKind => f.write_str(
                "this is a key of another kind: write an Ed25519 public key, as `otaru keygen` prints it or in a PEM text",
            ),
            Self::Bad(why) => write!(f, "this key {why}"),
        }
    }
}

impl std::error::Error for NoKey {}

/// Bytes in front of the key in a SubjectPublicKeyInfo (RFC 8410 section 4).
const SPKI: [u8; 12] = [0x30, 0x2A, 0x30, 0x05, 0x06, 0x03, 0x2B, 0x65, 0x70, 0x03, 0x21, 0x00];

/// Reads a key: hexadecimal, base64, or PEM.
///
/// # Errors
/// Returns an error if the text is not an Ed25519 public key, or if devices do not trust this key.
pub fn key(text: &str) -> Result<PublicKey, NoKey> {
    let key = bytes(text.trim())?;
    key.check().map_err(NoKey::Bad)?;
    Ok(key)
}

fn bytes(text: &str) -> Result<PublicKey, NoKey> {
    if text.contains("PRIVATE KEY-----") {
        return Err(NoKey::Private);
    }
    if text.starts_with("ssh-") || text.starts_with("ecdsa-") {
        return Err(NoKey::OtherKind);
    }
    if [".pem", ".pub", ".key", ".der"].iter().any(|end| text.ends_with(end)) {
        return Err(NoKey::Path);
    }
    let bytes = match text.strip_prefix("-----BEGIN PUBLIC KEY-----") {
        Some(pem) => {
            let body = pem.trim_end().strip_suffix("-----END PUBLIC KEY-----").ok_or(NoKey::Form)?;
            // Within PEM there is always a structure round the key.
            let der = base64(body).ok_or(NoKey::Form)?;
            der.strip_prefix(&SPKI).ok_or(NoKey::OtherKind)?.to_vec()
        }
        None if text.starts_with("-----BEGIN ") => return Err(NoKey::OtherKind),
        None if text.len() == 64 => hex(text).ok_or(NoKey::Form)?,
        None => base64(text).ok_or(NoKey::Form)?,
    };
    match bytes.strip_prefix(&SPKI).unwrap_or(&bytes).try_into() {
        Ok(key) => Ok(PublicKey::from_bytes(key)),
        // A SEQUENCE of ASN.1 that is not ours.
        Err(_) if bytes.first() == Some(&0x30) && bytes.len() > 40 => Err(NoKey::OtherKind),
        Err(_) => Err(NoKey::Form),
    }
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let pair = |pair: &[u8]| u8::try_from(digit(pair.first()?)? * 16 + digit(pair.get(1)?)?).ok();
    text.as_bytes().chunks(2).map(pair).collect()
}

/// Base64 (RFC 4648 section 4), over several lines if need be.
fn base64(text: &str) -> Option<Vec<u8>> {
    let letters: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    if !letters.len().is_multiple_of(4) {
        return None;
    }
    let padding = letters.iter().rev().take_while(|byte| **byte == b'=').count();
    let (letters, _) = letters.split_at_checked(letters.len() - padding)?;
    let mut bytes = Vec::new();
    let (mut bits, mut count) = (0_u32, 0);
    for letter in letters {
        let value = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
            bits &= (1 << count) - 1;
        }
    }
    (padding <= 2 && bits == 0).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8410 section 10.1.
    const KEY: PublicKey = PublicKey::from_bytes([
        0x19, 0xBF, 0x44, 0x09, 0x69, 0x84, 0xCD, 0xFE, 0x85, 0x41, 0xBA, 0xC1, 0x67, 0xDC, 0x3B, 0x96, 0xC8,
        0x50, 0x86, 0xAA, 0x30, 0xB6, 0xB6, 0xCB, 0x0C, 0x5C, 0x38, 0xAD, 0x70, 0x31, 0x66, 0xE1,
    ]);

    #[test]
    fn every_form_gives_the_same_key() {
        for text in [
            "19bf44096984cdfe8541bac167dc3b96c85086aa30b6b6cb0c5c38ad703166e1",
            "Gb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=",
            "MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=",
            "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n\
             -----END PUBLIC KEY-----\n",
        ] {
            assert_eq!(key(text), Ok(KEY), "{text}");
        }
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let rsa =
            "-----BEGIN PUBLIC KEY-----\nMFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBAL0v\n-----END PUBLIC KEY-----\n";
        for (text, why) in [
            ("", NoKey::Form),
            ("19bf", NoKey::Form),
            ("keys/release.pub.pem", NoKey::Path),
            ("=", NoKey::Form),
            ("====", NoKey::Form),
            ("Gb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE", NoKey::Form),
            ("19bf44096984cdfe8541bac167dc3b96c85086aa30b6b6cb0c5c38ad703166ex", NoKey::Form),
            ("\u{fc}".repeat(32).as_str(), NoKey::Form),
            (
                "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
                 -----END PRIVATE KEY-----\n",
                NoKey::Private,
            ),
            (
                "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMC4C\n-----END ENCRYPTED PRIVATE KEY-----\n",
                NoKey::Private,
            ),
            (rsa, NoKey::OtherKind),
            // X25519, whose structure differs in one byte.
            ("MCowBQYDK2VuAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=", NoKey::OtherKind),
            ("-----BEGIN RSA PUBLIC KEY-----\nMEgCQQC9\n-----END RSA PUBLIC KEY-----\n", NoKey::OtherKind),
            (
                "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBm/RAlphM3+hUG6wWfcO5bIUIaqMLa2ywxcOK1wMWbh me",
                NoKey::OtherKind,
            ),
            ("0".repeat(64).as_str(), NoKey::Bad(BadKey::Weak)),
            ("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", NoKey::Bad(BadKey::Weak)),
            (&format!("01{}", "0".repeat(62)), NoKey::Bad(BadKey::Weak)),
            (&format!("02{}", "0".repeat(62)), NoKey::Bad(BadKey::NoPoint)),
            ("f".repeat(64).as_str(), NoKey::Bad(BadKey::NoPoint)),
        ] {
            assert_eq!(key(text), Err(why), "{text}");
        }
    }
}
