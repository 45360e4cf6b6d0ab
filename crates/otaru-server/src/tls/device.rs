//! Certificates of devices, and the authority that signs them. Its key belongs on no server: a device logs in with what was signed, and a
//! server needs only the authority's certificate.

use std::fmt;

use otaru_rollout::Time;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use zeroize::Zeroizing;

use super::error::TlsError;
use super::own::for_days;

/// A certificate and its key, as PEM.
pub struct Issued {
    /// The certificate.
    pub certificate: String,
    /// The key.
    pub key: Zeroizing<String>,
}

/// The key is nobody's to see.
impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issued").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

/// Makes an authority for devices, good for so many days.
///
/// # Errors
/// When there is no randomness.
pub fn authority(name: &str, days: u64, now: Time) -> Result<Issued, TlsError> {
    let key = KeyPair::generate().map_err(setup)?;
    let mut params = for_days(Vec::new(), days, now)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.distinguished_name.push(DnType::CommonName, name);
    let certificate = params.self_signed(&key).map_err(setup)?.pem();
    Ok(Issued { certificate, key: Zeroizing::new(key.serialize_pem()) })
}

/// Signs a certificate for a device, with an authority's certificate and key.
///
/// # Errors
/// When these cannot be read, or do not fit each other.
pub fn sign(authority: &Issued, device: &str, days: u64, now: Time) -> Result<Issued, TlsError> {
    let signing = KeyPair::from_pem(&authority.key).map_err(|_| {
        TlsError::Setup("the authority's key cannot be read; it is a key of EC in PEM".to_owned())
    })?;
    fits(&authority.certificate, &signing)?;
    let issuer = Issuer::from_ca_cert_pem(&authority.certificate, signing).map_err(setup)?;
    let key = KeyPair::generate().map_err(setup)?;
    let mut params: CertificateParams = for_days(Vec::new(), days, now)?;
    params.distinguished_name.push(DnType::CommonName, device);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    let certificate = params.signed_by(&key, &issuer).map_err(setup)?.pem();
    Ok(Issued { certificate, key: Zeroizing::new(key.serialize_pem()) })
}

/// Fails unless the key is that of the certificate, which is an authority's.
fn fits(certificate: &str, key: &KeyPair) -> Result<(), TlsError> {
    let wrong = |what: &str| Err(TlsError::Setup(what.to_owned()));
    let Ok((_, pem)) = x509_parser::pem::parse_x509_pem(certificate.as_bytes()) else {
        return wrong(
            "the authority's certificate cannot be read; it begins with -----BEGIN CERTIFICATE-----",
        );
    };
    let Ok(parsed) = pem.parse_x509() else { return wrong("the authority's certificate is damaged") };
    if !parsed.is_ca() {
        return wrong("the authority's certificate is none that may sign others");
    }
    match parsed.public_key().subject_public_key.data.as_ref() == key.public_key_raw() {
        true => Ok(()),
        false => wrong("the key is not that of the authority's certificate"),
    }
}

fn setup(error: impl fmt::Display) -> TlsError {
    TlsError::Setup(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::Facts;

    const NOW: Time = Time(1_800_000_000_000);

    #[test]
    fn an_authority_signs_for_a_device_and_no_other_key_does() {
        let (ours, others) = (authority("ours", 30, NOW).unwrap(), authority("others", 30, NOW).unwrap());
        let issued = sign(&ours, "lamp-7", 10, NOW).unwrap();
        let (_, pem) = x509_parser::pem::parse_x509_pem(issued.certificate.as_bytes()).unwrap();
        let facts = Facts::read(&pem.contents).unwrap();
        assert!(facts.names("lamp-7") && !facts.names("lamp") && !facts.has_ended(NOW));
        let mixed = Issued { certificate: ours.certificate.clone(), key: others.key };
        assert!(sign(&mixed, "lamp", 10, NOW).unwrap_err().to_string().contains("not that of the authority"));
        let device = Issued { certificate: issued.certificate, key: issued.key };
        assert!(sign(&device, "lamp", 10, NOW).unwrap_err().to_string().contains("may sign others"));
        assert!(!format!("{device:?}").contains("PRIVATE"));
    }
}
