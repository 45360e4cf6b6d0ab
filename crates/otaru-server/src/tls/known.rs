//! CAs that the server knows by name: those of its own certificate's chain, and those that it trusts an external broker by.

use std::sync::{Arc, OnceLock};

use otaru_format::status::CaIds;
use otaru_rollout::Time;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::facts::Facts;
use super::live::LiveCertificate;
use crate::text;

/// Certificates of a chain that are looked at.
const LONGEST_CHAIN: usize = 8;
/// Bytes of the longest name.
const LONGEST_NAME: usize = 64;

/// A CA, or a certificate that devices may trust as one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownCa {
    /// Name in reports: the first 16 digits of its certificate's SHA-256.
    pub id: String,
    /// Common name.
    pub name: Option<String>,
    /// Last moment.
    pub ends: Time,
}

impl KnownCa {
    /// Reads one; `None` where the bytes are no certificate, or one that nobody can trust as a CA: a server's that another has signed.
    fn read(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        if !certificate.is_ca() && certificate.subject() != certificate.issuer() {
            return None;
        }
        let Facts { mut common_name, ends, .. } = Facts::read(der).ok()?;
        if let Some(name) = &mut common_name {
            text::cut(name, LONGEST_NAME);
        }
        Some(Self { id: CaIds::of([der]).as_str().to_owned(), name: common_name, ends })
    }
}

/// The CAs that are known.
#[derive(Debug, Default)]
pub struct KnownCas {
    live: OnceLock<Arc<LiveCertificate>>,
    external: Vec<KnownCa>,
}

impl KnownCas {
    /// Begins with those that an external broker is trusted by, in DER. A computer's own roots, which are many, are nobody's to know.
    pub fn new<'c>(external: impl IntoIterator<Item = &'c [u8]>) -> Self {
        let external: Vec<&[u8]> = external.into_iter().take(CaIds::MOST + 1).collect();
        let is_few = external.len() <= CaIds::MOST;
        let external = external.into_iter().filter(|_| is_few).filter_map(KnownCa::read).collect();
        Self { live: OnceLock::new(), external }
    }

    /// Adds those of the server's certificate, whichever is in use.
    pub fn follow(&self, live: Arc<LiveCertificate>) {
        let _ = self.live.set(live);
    }

    /// Returns all of them.
    pub fn all(&self) -> Vec<KnownCa> {
        let chain = self.live.get().map(|live| live.chain()).unwrap_or_default();
        let own = chain.iter().take(LONGEST_CHAIN).filter_map(|der| KnownCa::read(der));
        let mut all: Vec<KnownCa> = own.chain(self.external.iter().cloned()).collect();
        all.sort_by(|one, other| one.id.cmp(&other.id));
        all.dedup_by(|one, other| one.id == other.id);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_many_roots_of_a_computer_and_what_is_no_certificate_are_not_known() {
        let key = rcgen::KeyPair::generate().unwrap();
        let made = rcgen::CertificateParams::new(["broker".to_owned()]).unwrap().self_signed(&key).unwrap();
        let der = made.der().as_ref();
        assert_eq!(KnownCas::new([der, b"none"]).all().len(), 1);
        assert_eq!(KnownCas::new([der; CaIds::MOST + 1]).all(), []);
        assert_eq!(KnownCas::new([der]).all()[0].id, CaIds::of([der]).as_str());
        assert_eq!(KnownCas::new([der, der]).all().len(), 1, "each once");
    }

    #[test]
    fn a_certificate_that_another_has_signed_is_nobodys_ca_and_names_are_short() {
        let key = || rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new([]).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, "long\n".repeat(99));
        let ca = rcgen::CertifiedIssuer::self_signed(params, key()).unwrap();
        let server = rcgen::CertificateParams::new(["a".to_owned()]).unwrap().signed_by(&key(), &ca).unwrap();
        let all = KnownCas::new([server.der().as_ref(), ca.der().as_ref()]).all();
        assert_eq!(all.len(), 1);
        let name = all[0].name.as_deref().unwrap();
        assert!(name.len() <= LONGEST_NAME && !name.contains('\n'), "{name:?}");
    }
}
