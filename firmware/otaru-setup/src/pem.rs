//! Certificates and keys as a person copies them, PEM (RFC 7468), read where they stand: what is in it, DER, takes the place of its
//! text, so that no other memory is needed.

use core::fmt;

use heapless::Vec;

/// Largest number of CAs that a device trusts, of those built in and of those set each.
pub const MOST_CAS: usize = 4;

/// Largest certificate or key, in bytes of DER. With RSA of 4096 bits they have some 2,400.
pub const LONGEST: usize = 4096;

const BEGIN: &[u8] = b"-----BEGIN ";
const END: &[u8] = b"-----END ";
const DASHES: &[u8] = b"-----";

/// Reason that a text is none of what is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadPem {
    /// No PEM of this kind is in it.
    None,
    /// It names a file.
    Path,
    /// A PEM in it is damaged.
    Damaged,
    /// A PEM in it is of another kind.
    OtherKind,
    /// A private key stands where everybody may read.
    Private,
    /// A certificate stands where a key is wanted.
    Certificate,
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
            Self::Damaged => "a PEM text in it is damaged",
            Self::OtherKind => "a PEM text in it is of another kind",
            Self::Private => "there is a private key in it, which belongs to nobody but its owner",
            Self::Certificate => "there is a certificate in it, and a key is wanted",
            Self::Encrypted => "the key is encrypted, and a device has nobody to ask for the password",
            Self::TooMany => {
                "there are more certificates in it than a device has room for: four CAs, and one of its own"
            }
            Self::TooLarge => "it is larger than a device has room for",
        })
    }
}

impl core::error::Error for BadPem {}

/// Returns the certificates in a text, as DER: one at least, and `N` at most. The text is lost.
///
/// # Errors
/// Returns an error if there are others, or something else.
pub fn certificates<const N: usize>(text: &mut [u8]) -> Result<Vec<&[u8], N>, BadPem> {
    if has(text, b"PRIVATE KEY-----") {
        return Err(BadPem::Private);
    }
    let none = nothing(text);
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(block) = Block::first(rest)? {
        rest = block.behind;
        match block.kind {
            Kind::Certificate => found.push(der(block.body)?).map_err(|_| BadPem::TooMany)?,
            Kind::Key | Kind::Parameters | Kind::Other => return Err(BadPem::OtherKind),
        }
    }
    if found.is_empty() { Err(none) } else { Ok(found) }
}

/// Returns the private key in a text, as DER: PKCS#8, or as SEC 1 or PKCS#1 has it. The text is lost.
///
/// # Errors
/// Returns an error if there is none, or more than one.
pub fn private_key(text: &mut [u8]) -> Result<&[u8], BadPem> {
    if has(text, b"ENCRYPTED") {
        return Err(BadPem::Encrypted);
    }
    let none = nothing(text);
    let mut found = None;
    let mut rest = text;
    while let Some(block) = Block::first(rest)? {
        rest = block.behind;
        match block.kind {
            Kind::Key if found.is_some() => return Err(BadPem::TooMany),
            Kind::Key => found = Some(der(block.body)?),
            // OpenSSL writes them in front of an EC key, which names its curve as well.
            Kind::Parameters => {}
            Kind::Certificate => return Err(BadPem::Certificate),
            Kind::Other => return Err(BadPem::OtherKind),
        }
    }
    found.ok_or(none)
}

/// Contents of a PEM text, by its label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Certificate,
    Key,
    Parameters,
    Other,
}

impl Kind {
    fn labelled(label: &[u8]) -> Self {
        match label {
            b"CERTIFICATE" => Self::Certificate,
            b"PRIVATE KEY" | b"EC PRIVATE KEY" | b"RSA PRIVATE KEY" => Self::Key,
            b"EC PARAMETERS" => Self::Parameters,
            _ => Self::Other,
        }
    }
}

/// PEM text.
struct Block<'t> {
    kind: Kind,
    /// Base64 between its two lines.
    body: &'t mut [u8],
    /// Text behind its last line.
    behind: &'t mut [u8],
}

impl<'t> Block<'t> {
    /// Finds the first one in a text. Whatever else stands before it is a comment.
    fn first(text: &'t mut [u8]) -> Result<Option<Self>, BadPem> {
        let Some(begin) = find(text, BEGIN) else { return Ok(None) };
        let (_, text) = split(text, begin + BEGIN.len())?;
        let end_of_label = find(text, DASHES).ok_or(BadPem::Damaged)?;
        let (label, text) = split(text, end_of_label)?;
        let (_, text) = split(text, DASHES.len())?;
        let end = find(text, END).ok_or(BadPem::Damaged)?;
        let (body, text) = split(text, end)?;
        let (_, text) = split(text, END.len())?;
        let (same, text) = split(text, label.len())?;
        let (dashes, behind) = split(text, DASHES.len())?;
        if same != label || dashes != DASHES {
            return Err(BadPem::Damaged);
        }
        Ok(Some(Self { kind: Kind::labelled(label), body, behind }))
    }
}

fn split(text: &mut [u8], at: usize) -> Result<(&mut [u8], &mut [u8]), BadPem> {
    text.split_at_mut_checked(at).ok_or(BadPem::Damaged)
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

fn has(text: &[u8], part: &[u8]) -> bool {
    find(text, part).is_some()
}

/// Reason that there is nothing in a text.
fn nothing(text: &[u8]) -> BadPem {
    let text = text.trim_ascii();
    let path = [".pem", ".crt", ".cer", ".key", ".der"].iter().any(|end| text.ends_with(end.as_bytes()));
    if path { BadPem::Path } else { BadPem::None }
}

/// Reads base64 in its place.
fn der(body: &mut [u8]) -> Result<&[u8], BadPem> {
    let length = base64(body).ok_or(BadPem::Damaged)?;
    let der = body.get(..length).filter(|der| is_whole(der)).ok_or(BadPem::Damaged)?;
    if der.len() > LONGEST { Err(BadPem::TooLarge) } else { Ok(der) }
}

/// Replaces base64 (RFC 4648 section 4) by what it stands for, and returns the number of bytes. Blanks count for nothing, wherever a phone
/// puts them.
fn base64(text: &mut [u8]) -> Option<usize> {
    let (mut bits, mut letters, mut padding, mut length) = (0_u32, 0_usize, 0, 0);
    for at in 0..text.len() {
        let letter = *text.get(at)?;
        let value = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            b'=' => {
                padding += 1;
                continue;
            }
            blank if blank.is_ascii_whitespace() => continue,
            _ => return None,
        };
        if padding > 0 {
            return None;
        }
        bits = bits << 6 | u32::from(value);
        letters += 1;
        if let Some(left) = left_over(letters) {
            // Three bytes come out of four letters, so this stands before the letter.
            *text.get_mut(length)? = (bits >> left) as u8;
            length += 1;
        }
    }
    let left = if letters.is_multiple_of(4) { 0 } else { left_over(letters)? };
    let whole = (letters + padding).is_multiple_of(4) && padding <= 2;
    (whole && bits & ((1 << left) - 1) == 0).then_some(length)
}

/// Bits that so many letters have beyond a byte that the last of them makes whole; `None` where it makes none whole.
fn left_over(letters: usize) -> Option<u32> {
    match letters % 4 {
        2 => Some(4),
        3 => Some(2),
        0 => Some(0),
        _ => None,
    }
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
    use crate::pem_text::pem;

    fn of(text: &str) -> Result<std::vec::Vec<usize>, BadPem> {
        let mut text = text.as_bytes().to_vec();
        certificates::<MOST_CAS>(&mut text).map(|found| found.iter().map(|der| der.len()).collect())
    }

    #[test]
    fn base64_of_each_length_leads_back() {
        for length in 0..200_usize {
            let bytes: std::vec::Vec<u8> = (0..length).map(|at| (at * 37 + length) as u8).collect();
            let text = pem_rfc7468::encode_string("X", pem_rfc7468::LineEnding::CRLF, &bytes).unwrap();
            let body = text.lines().filter(|line| !line.starts_with('-')).collect::<std::vec::Vec<_>>();
            // In lines, in one, and with blanks anywhere.
            for between in ["\r\n", "", " \t\n"] {
                let mut body = body.join(between).into_bytes();
                let found = base64(&mut body).unwrap();
                assert_eq!(body[..found], bytes, "{length}");
            }
        }
        for bad in ["A", "AA", "AA=", "AA==A", "A===", "AB==", "AAB=", "AAAA=", "AA-A", "=", "===="] {
            assert_eq!(base64(&mut bad.as_bytes().to_vec()), None, "{bad}");
        }
    }

    #[test]
    fn certificates_come_out_in_their_order_whatever_stands_between() {
        let text = format!("# ours\n{}\n# theirs\r\n{}\n", pem("CERTIFICATE", 300), pem("CERTIFICATE", 400));
        assert_eq!(of(&text), Ok(vec![304, 404]));
        assert_eq!(of(&text.replace('\n', "\r\n")), Ok(vec![304, 404]));
        // In one line, as a phone may have it.
        assert_eq!(of(&text.replace('\n', " ")), Ok(vec![304, 404]));
    }

    #[test]
    fn a_text_that_is_cut_anywhere_is_refused() {
        let text = pem("CERTIFICATE", 90);
        let text = text.trim_end();
        assert_eq!(of(text), Ok(vec![92]));
        for end in 0..text.len() {
            assert!(of(&text[..end]).is_err(), "{end}");
        }
        // A text without its end is not made whole by the next one's.
        assert_eq!(of(&format!("{}\n{text}", &text[..60])), Err(BadPem::Damaged));
        assert_eq!(of(&text.replace("END CERTIFICATE", "END CERTIFICATES")), Err(BadPem::Damaged));
    }

    #[test]
    fn keys_may_follow_the_parameters_of_their_curve() {
        let parameters = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n";
        let mut text = format!("{parameters}{}", pem("EC PRIVATE KEY", 100)).into_bytes();
        assert_eq!(private_key(&mut text).unwrap().len(), 102);
        assert_eq!(private_key(&mut parameters.as_bytes().to_vec()), Err(BadPem::None));
    }

    #[test]
    fn any_bytes_are_taken() {
        let whole = format!("{}{}", pem("CERTIFICATE", 60), pem("CERTIFICATE", 20)).into_bytes();
        for at in 0..whole.len() {
            for byte in [0, b'-', b'=', b'A', b'\n', 0xFF] {
                let mut text = whole.clone();
                text[at] = byte;
                let _ = certificates::<MOST_CAS>(&mut text.clone());
                let _ = certificates::<1>(&mut text.clone());
                let _ = private_key(&mut text);
            }
        }
        for byte in 0..=255 {
            let _ = certificates::<MOST_CAS>(&mut [byte; 80]);
            let _ = private_key(&mut [byte; 80]);
        }
    }
}
