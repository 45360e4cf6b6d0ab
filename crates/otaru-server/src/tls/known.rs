//! CAs that the server knows by name: those of its own certificate's chain, and those that it trusts an external broker by.

use std::sync::{Arc, OnceLock};

use otaru_format::status::CaIds;
use otaru_rollout::Time;

use super::facts::Facts;
use super::live::LiveCertificate;

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
    /// Reads one; `None` where the bytes are no certificate.
    fn read(der: &[u8]) -> Option<Self> {
        let Facts { common_name, ends, .. } = Facts::read(der).ok()?;
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
        let own = chain.iter().filter_map(|der| KnownCa::read(der));
        own.chain(self.external.iter().cloned()).collect()
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
    }
}
