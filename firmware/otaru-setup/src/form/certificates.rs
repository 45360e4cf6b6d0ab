//! Certificates and keys in the form of the set-up page, read in the place of the request: a phone may send 16 KiB, and there is no memory
//! for a copy.

use super::{body, hex};
use crate::pem::{self, BadPem};
use crate::trust_store::{BadTrust, Change, Field, Id};

/// Name of the field for CAs.
pub const CAS: &str = "ca";
/// Name of the field for the device's own certificate.
pub const CERTIFICATE: &str = "cert";
/// Name of the field for its key.
pub const KEY: &str = "key";
/// Name of the boxes that are ticked to remove a certificate, whose 16 digits are the value.
pub const REMOVE: &str = "remove";

/// Returns the form in a request that [`request`](super::request) found one in.
pub fn form(request: &mut [u8]) -> &mut [u8] {
    let (start, length) = body(request).unwrap_or_default();
    request.get_mut(start..).and_then(|body| body.get_mut(..length)).unwrap_or_default()
}

/// Returns what a form changes of the CAs and the certificate that are kept. Its texts are lost.
///
/// # Errors
/// Returns the first field that cannot be used.
pub fn change(form: &mut [u8]) -> Result<Change<'_>, BadTrust> {
    let mut change = Change::default();
    let (mut certificate, mut key) = (None, None);
    for pair in form.split_mut(|byte| *byte == b'&') {
        let Some(equals) = pair.iter().position(|byte| *byte == b'=') else { continue };
        let Some((name, value)) = pair.split_at_mut_checked(equals + 1) else { continue };
        let field = match name.strip_suffix(b"=").unwrap_or_default() {
            name if name == CAS.as_bytes() => Field::Cas,
            name if name == CERTIFICATE.as_bytes() => Field::Certificate,
            name if name == KEY.as_bytes() => Field::Key,
            name if name == REMOVE.as_bytes() => {
                // The page has as many boxes as there is room for here.
                if let Some(id) = Id::from_digits(value) {
                    let _ = change.remove.push(id);
                }
                continue;
            }
            _ => continue,
        };
        let bad = |why| BadTrust::Pem(field, why);
        let text = decoded(value).ok_or(bad(BadPem::Damaged))?;
        if text.trim_ascii().is_empty() {
            continue;
        }
        match field {
            Field::Cas => change.cas = pem::certificates(text).map_err(bad)?,
            Field::Certificate => {
                certificate = pem::certificates::<1>(text).map_err(bad)?.first().copied();
            }
            Field::Key => key = Some(pem::private_key(text).map_err(bad)?),
        }
    }
    change.identity = match (certificate, key) {
        (None, None) => None,
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (Some(_), None) | (None, Some(_)) => return Err(BadTrust::Pair),
    };
    Ok(change)
}

/// Reads a value in its place; `None` if it is no such value.
fn decoded(value: &mut [u8]) -> Option<&mut [u8]> {
    let (mut from, mut to) = (0, 0);
    while let Some(byte) = value.get(from).copied() {
        from += 1;
        let byte = match byte {
            b'+' => b' ',
            b'%' => {
                let (high, low) = (*value.get(from)?, *value.get(from + 1)?);
                from += 2;
                hex(high)? << 4 | hex(low)?
            }
            byte => byte,
        };
        *value.get_mut(to)? = byte;
        to += 1;
    }
    value.get_mut(..to)
}

#[cfg(test)]
mod tests {
    use super::super::{REQUEST, Request, request, settings};
    use super::*;
    use crate::pem_text::{der, pem};
    use crate::trust_store::{LEN, ROOM, TrustStore};

    /// A text as a browser sends it, whose lines end as a form's do.
    fn encoded(text: &str) -> String {
        let byte = |byte: u8| match byte {
            b' ' => "+".to_owned(),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'*' => {
                char::from(byte).to_string()
            }
            byte => format!("%{byte:02X}"),
        };
        text.replace('\n', "\r\n").bytes().map(byte).collect()
    }

    fn of(fields: &[(&str, &str)]) -> Vec<u8> {
        let pairs: Vec<String> =
            fields.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
        pairs.join("&").into_bytes()
    }

    #[test]
    fn texts_become_certificates_and_the_other_fields_stay() {
        let (cas, certificate, key) = (
            pem("CERTIFICATE", 300) + &pem("CERTIFICATE", 400),
            pem("CERTIFICATE", 500),
            pem("PRIVATE KEY", 100),
        );
        let id = Id::of(&der(40, 1));
        let mut form = of(&[
            ("ssid", "attic"),
            ("psk", ""),
            ("host", "broker.lan"),
            ("tls", "on"),
            (REMOVE, &id.to_string()),
            (CAS, &cas),
            (CERTIFICATE, &certificate),
            (KEY, &key),
        ]);
        let settings = settings(&form).unwrap();
        assert_eq!((settings.host.as_str(), settings.port), ("broker.lan", 8883));
        let change = change(&mut form).unwrap();
        assert_eq!(change.remove[..], [id]);
        assert_eq!(change.cas[..], [&der(300, 7)[..], &der(400, 7)]);
        assert_eq!(change.identity, Some((&der(500, 7)[..], &der(100, 7)[..])));
    }

    #[test]
    fn empty_fields_change_nothing() {
        for text in ["", " ", "\n \n"] {
            let mut form = of(&[("ssid", "attic"), (CAS, text), (CERTIFICATE, text), (KEY, text)]);
            assert_eq!(change(&mut form), Ok(Change::default()), "{text:?}");
        }
        assert_eq!(change(&mut []), Ok(Change::default()));
        assert_eq!(change(&mut b"ca&cert&key&=&&".to_vec()), Ok(Change::default()));
    }

    #[test]
    fn what_a_person_can_paste_wrong_is_told() {
        let (certificate, key) = (pem("CERTIFICATE", 300), pem("PRIVATE KEY", 100));
        let bad = |fields: &[(&str, &str)]| change(&mut of(fields)).unwrap_err();
        for (name, field) in [(CAS, Field::Cas), (CERTIFICATE, Field::Certificate)] {
            let bad = |text: &str| bad(&[(name, text)]);
            assert_eq!(bad("ca.pem"), BadTrust::Pem(field, BadPem::Path));
            assert_eq!(bad("my CA"), BadTrust::Pem(field, BadPem::None));
            assert_eq!(bad(&key), BadTrust::Pem(field, BadPem::Private));
            assert_eq!(bad(&certificate[..200]), BadTrust::Pem(field, BadPem::Damaged));
            assert_eq!(bad(&pem("CERTIFICATE REQUEST", 100)), BadTrust::Pem(field, BadPem::OtherKind));
            assert_eq!(bad(&pem("CERTIFICATE", 4096)), BadTrust::Pem(field, BadPem::TooLarge));
            assert_eq!(bad(&certificate.repeat(5)), BadTrust::Pem(field, BadPem::TooMany));
        }
        assert_eq!(
            bad(&[(CERTIFICATE, &certificate.repeat(2))]),
            BadTrust::Pem(Field::Certificate, BadPem::TooMany)
        );
        let bad_key = |text: &str| bad(&[(CERTIFICATE, &certificate), (KEY, text)]);
        assert_eq!(bad_key(&certificate), BadTrust::Pem(Field::Key, BadPem::Certificate));
        assert_eq!(bad_key("secret"), BadTrust::Pem(Field::Key, BadPem::None));
        assert_eq!(bad_key(&pem("ENCRYPTED PRIVATE KEY", 90)), BadTrust::Pem(Field::Key, BadPem::Encrypted));
        assert_eq!(bad_key(&key.repeat(2)), BadTrust::Pem(Field::Key, BadPem::TooMany));
        assert_eq!(bad_key(""), BadTrust::Pair);
        assert_eq!(bad(&[(KEY, &key)]), BadTrust::Pair);
        for cut in ["ca=%", "ca=%4", "ca=%GG"] {
            let mut cut_form = cut.as_bytes().to_vec();
            assert_eq!(change(&mut cut_form), Err(BadTrust::Pem(Field::Cas, BadPem::Damaged)), "{cut}");
        }
    }

    #[test]
    fn all_that_there_is_room_for_comes_in_one_request() {
        // Each letter at its longest but those of base64, of which one in 32 is.
        let most = "x".repeat(64);
        let (ssid, symbol) = ("\u{e9}".repeat(16), "\u{e9}".repeat(32));
        let cas: String = (0..4).map(|_| pem("CERTIFICATE", 700)).collect();
        let (certificate, key) = (pem("CERTIFICATE", 1000), pem("PRIVATE KEY", 272));
        let form = of(&[
            ("ssid", &ssid),
            ("psk", &most),
            ("host", &most),
            ("port", "65535"),
            ("tls", "on"),
            ("mqtt", "3.1.1"),
            ("user", &symbol),
            ("password", &symbol),
            ("name", &ssid),
            ("topic", &symbol),
            (CAS, &cas),
            (CERTIFICATE, &certificate),
            (KEY, &key),
        ]);
        let head =
            format!("POST / HTTP/1.1\r\nX: {}\r\nContent-Length: {}\r\n\r\n", "x".repeat(1000), form.len());
        let mut bytes = [head.as_bytes(), &form].concat();
        assert!(bytes.len() < REQUEST * 2 / 3, "{} of {REQUEST} bytes", bytes.len());
        assert_eq!(request(&bytes), Request::Form(&form[..]));
        // What stands behind it in a buffer is not the form's.
        bytes.resize(REQUEST, b'&');
        let found = super::form(&mut bytes);
        assert_eq!(found, form);
        let change = change(found).unwrap();
        let own = change.identity.map_or(0, |(certificate, key)| certificate.len() + key.len());
        let set: usize = change.cas.iter().map(|ca| ca.len()).sum();
        assert_eq!(set + own, ROOM);
    }

    #[test]
    fn any_bytes_are_taken() {
        let whole = of(&[
            (REMOVE, "0123456789abcdef"),
            (CAS, &pem("CERTIFICATE", 40)),
            (CERTIFICATE, &pem("CERTIFICATE", 30)),
            (KEY, &pem("PRIVATE KEY", 20)),
        ]);
        for at in 0..whole.len() {
            for byte in [0, b'%', b'&', b'=', b'-', b'+', b'A', 0xFF] {
                let mut form = whole.clone();
                form[at] = byte;
                let mut buffer = [0; LEN];
                if let Ok(change) = change(&mut form) {
                    let _ = TrustStore::empty(&mut buffer).change(&change);
                }
            }
            let _ = change(&mut whole[..at].to_vec());
        }
        let many = format!("{REMOVE}=0123456789abcdef&").repeat(200);
        assert_eq!(change(&mut many.into_bytes()).unwrap().remove.len(), 5);
        for bytes in
            [&b""[..], b"POST / HTTP/1.1\r\n\r\n", b"POST / HTTP/1.1\r\ncontent-length: 99\r\n\r\nca="]
        {
            assert_eq!(super::form(&mut bytes.to_vec()), b"");
        }
    }
}
