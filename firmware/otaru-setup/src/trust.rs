//! Certificates and keys for TLS as a person copies them: PEM (RFC 7468), of which a device keeps what is in it, DER.

use std::fmt;

/// Largest number of CAs that a device trusts.
pub const MOST_CAS: usize = 4;

/// Largest certificate or key, in bytes of DER. With RSA of 4096 bits they have some 2,400.
const LONGEST: usize = 4096;

/// Reason that a text is none of what is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadPem {
    /// No PEM of this kind is in it.
    None,
    /// It names a file.
    Path,
    /// A PEM in it is damaged, or of another kind.
    Damaged,
    /// A private key stands where everybody may read.
    Private,
    /// A key that is encrypted.
    Encrypted,
    /// More than there may be.
    TooMany,
    /// Larger than any that a device can use.
    TooLarge,
}

impl fmt::Display for BadPem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "there is no PEM text of that kind (-----BEGIN …) in it",
            Self::Path => "this names a file: write what is in it, between three quotation marks",
            Self::Damaged => "a PEM text in it is damaged, or of another kind",
            Self::Private => "there is a private key in it, which belongs to nobody but its owner",
            Self::Encrypted => "the key is encrypted, and a device has nobody to ask for the password",
            Self::TooMany => {
                "there are more certificates in it than a device has room for: four CAs, and one of its own"
            }
            Self::TooLarge => "it is larger than a device has room for",
        })
    }
}

impl std::error::Error for BadPem {}

/// Certificates in a text, as DER: one at least, and `most` of them at most.
///
/// # Errors
/// Returns an error if there are others, or something else.
pub fn certificates(text: &str, most: usize) -> Result<Vec<Vec<u8>>, BadPem> {
    if text.contains("PRIVATE KEY-----") {
        return Err(BadPem::Private);
    }
    let found = all(text, &["CERTIFICATE"])?;
    if found.len() > most { Err(BadPem::TooMany) } else { Ok(found) }
}

/// The private key in a text, as DER: PKCS#8, or as SEC 1 or PKCS#1 has it.
///
/// # Errors
/// Returns an error if there is none, or more than one.
pub fn private_key(text: &str) -> Result<Vec<u8>, BadPem> {
    if text.contains("ENCRYPTED") {
        return Err(BadPem::Encrypted);
    }
    let [key] = <[Vec<u8>; 1]>::try_from(all(text, &["PRIVATE KEY", "EC PRIVATE KEY", "RSA PRIVATE KEY"])?)
        .map_err(|_| BadPem::TooMany)?;
    Ok(key)
}

fn all(text: &str, labels: &[&str]) -> Result<Vec<Vec<u8>>, BadPem> {
    const BEGIN: &str = "-----BEGIN ";
    let text = text.trim();
    if !text.contains(BEGIN) {
        let path = [".pem", ".crt", ".cer", ".key", ".der"].iter().any(|end| text.ends_with(end));
        return Err(if path { BadPem::Path } else { BadPem::None });
    }
    let starts = text.match_indices(BEGIN).map(|(start, _)| start);
    let ends = starts.clone().skip(1).chain([text.len()]);
    starts.zip(ends).map(|(start, end)| one(text.get(start..end).unwrap_or_default(), labels)).collect()
}

fn one(text: &str, labels: &[&str]) -> Result<Vec<u8>, BadPem> {
    // What stands behind its last line is a comment.
    let end = text.find("-----END ").and_then(|end| {
        let last = text.get(end..)?;
        Some(end + last.find('\n').unwrap_or(last.len()))
    });
    let text = text.get(..end.ok_or(BadPem::Damaged)?).unwrap_or_default().trim_end();
    let (label, der) = pem_rfc7468::decode_vec(text.as_bytes()).map_err(|_| BadPem::Damaged)?;
    if !labels.contains(&label) || !is_whole(&der) {
        return Err(BadPem::Damaged);
    }
    if der.len() > LONGEST { Err(BadPem::TooLarge) } else { Ok(der) }
}

/// Whether the bytes are a SEQUENCE of ASN.1 and nothing else (X.690, 8.1.3).
fn is_whole(der: &[u8]) -> bool {
    let length = match der {
        [0x30, length @ 0..=0x7F, ..] => 2 + usize::from(*length),
        [0x30, 0x81, length, ..] => 3 + usize::from(*length),
        [0x30, 0x82, high, low, ..] => 4 + usize::from(u16::from_be_bytes([*high, *low])),
        _ => return false,
    };
    length == der.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pem(label: &str, length: usize) -> String {
        let mut der = vec![0x30, 0x82];
        der.extend(u16::try_from(length).unwrap().to_be_bytes());
        der.resize(4 + length, 7);
        pem_rfc7468::encode_string(label, pem_rfc7468::LineEnding::LF, &der).unwrap()
    }

    #[test]
    fn several_certificates_come_out_in_their_order() {
        let text = format!("# ours\n{}\n# theirs\r\n{}\n", pem("CERTIFICATE", 300), pem("CERTIFICATE", 400));
        let found = certificates(&text, MOST_CAS).unwrap();
        assert_eq!(found.iter().map(Vec::len).collect::<Vec<_>>(), [304, 404]);
    }

    #[test]
    fn keys_of_each_form_come_out() {
        for label in ["PRIVATE KEY", "EC PRIVATE KEY", "RSA PRIVATE KEY"] {
            assert_eq!(private_key(&pem(label, 200)).unwrap().len(), 204, "{label}");
        }
    }

    #[test]
    fn what_is_none_is_told() {
        let certificate = pem("CERTIFICATE", 300);
        let of = |text: &str| certificates(text, MOST_CAS).unwrap_err();
        assert_eq!(of(""), BadPem::None);
        assert_eq!(of("certs/ca.pem"), BadPem::Path);
        assert_eq!(of(&pem("PRIVATE KEY", 100)), BadPem::Private);
        assert_eq!(of(&pem("PUBLIC KEY", 100)), BadPem::Damaged);
        assert_eq!(of(&certificate[..200]), BadPem::Damaged);
        assert_eq!(of(&certificate.replacen("BwcH", "Bw!H", 1)), BadPem::Damaged);
        assert_eq!(of(&pem("CERTIFICATE", 5000)), BadPem::TooLarge);
        assert_eq!(of(&certificate.repeat(5)), BadPem::TooMany);
        assert!(certificates(&certificate.repeat(4), MOST_CAS).is_ok());
        assert_eq!(private_key(&pem("ENCRYPTED PRIVATE KEY", 100)), Err(BadPem::Encrypted));
        assert_eq!(private_key(&certificate), Err(BadPem::Damaged));
        assert_eq!(private_key(&pem("PRIVATE KEY", 100).repeat(2)), Err(BadPem::TooMany));
        // A certificate that was cut before it was encoded.
        let cut =
            pem_rfc7468::encode_string("CERTIFICATE", pem_rfc7468::LineEnding::LF, &[0x30, 0x82, 1, 0, 7]);
        assert_eq!(of(&cut.unwrap()), BadPem::Damaged);
    }
}
