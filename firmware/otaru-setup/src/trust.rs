//! Certificates and keys for TLS as they stand in a file: PEM, which [`pem`] reads, of which a device keeps what is in it, DER.

use crate::pem;
pub use crate::pem::{BadPem, MOST_CAS};

/// Certificates in a text, as DER: one at least, and `most` of them at most.
///
/// # Errors
/// Returns an error if there are others, or something else.
pub fn certificates(text: &str, most: usize) -> Result<Vec<Vec<u8>>, BadPem> {
    let mut text = text.as_bytes().to_vec();
    let found = pem::certificates::<MOST_CAS>(&mut text)?;
    if found.len() > most {
        Err(BadPem::TooMany)
    } else {
        Ok(found.into_iter().map(<[u8]>::to_vec).collect())
    }
}

/// The private key in a text, as DER: PKCS#8, or as SEC 1 or PKCS#1 has it.
///
/// # Errors
/// Returns an error if there is none, or more than one.
pub fn private_key(text: &str) -> Result<Vec<u8>, BadPem> {
    pem::private_key(&mut text.as_bytes().to_vec()).map(<[u8]>::to_vec)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pem_text::pem;

    #[test]
    fn several_certificates_come_out_in_their_order() {
        let text = format!("# ours\n{}\n# theirs\r\n{}\n", pem("CERTIFICATE", 300), pem("CERTIFICATE", 400));
        let found = certificates(&text, MOST_CAS).unwrap();
        assert_eq!(found.iter().map(Vec::len).collect::<Vec<_>>(), [304, 404]);
    }

    #[test]
    fn keys_of_each_form_come_out() {
        for label in ["PRIVATE KEY", "EC PRIVATE KEY", "RSA PRIVATE KEY"] {
            assert_eq!(private_key(&pem(label, 200)).unwrap().len(), 203, "{label}");
        }
    }

    #[test]
    fn what_is_none_is_told() {
        let certificate = pem("CERTIFICATE", 300);
        let of = |text: &str| certificates(text, MOST_CAS).unwrap_err();
        assert_eq!(of(""), BadPem::None);
        assert_eq!(of("certs/ca.pem"), BadPem::Path);
        assert_eq!(of(&pem("PRIVATE KEY", 100)), BadPem::Private);
        assert_eq!(of(&pem("PUBLIC KEY", 100)), BadPem::OtherKind);
        assert_eq!(of(&certificate[..200]), BadPem::Damaged);
        assert_eq!(of(&certificate.replacen("BwcH", "Bw!H", 1)), BadPem::Damaged);
        assert_eq!(of(&pem("CERTIFICATE", 5000)), BadPem::TooLarge);
        assert_eq!(of(&certificate.repeat(5)), BadPem::TooMany);
        assert!(certificates(&certificate.repeat(4), MOST_CAS).is_ok());
        assert_eq!(private_key(&pem("ENCRYPTED PRIVATE KEY", 100)), Err(BadPem::Encrypted));
        assert_eq!(private_key(&certificate), Err(BadPem::Certificate));
        assert_eq!(private_key(&pem("PRIVATE KEY", 100).repeat(2)), Err(BadPem::TooMany));
        // A certificate that was cut before it was encoded.
        let cut =
            pem_rfc7468::encode_string("CERTIFICATE", pem_rfc7468::LineEnding::LF, &[0x30, 0x82, 1, 0, 7]);
        assert_eq!(of(&cut.unwrap()), BadPem::Damaged);
    }
}
