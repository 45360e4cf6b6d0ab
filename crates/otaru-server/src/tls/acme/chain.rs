//! A certificate that a directory sent, held against what was asked for before it takes the place of a good one.

use std::sync::Arc;
use std::time::Duration;

use otaru_rollout::Time;
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::domain::Domain;
use crate::text;
use crate::tls::facts::Facts;

/// The most certificates of a chain: devices take a server's own and eight CAs.
const MOST: usize = 9;
/// Bytes of the longest chain: what fits one record, as the largest chips read it.
const LONGEST: usize = 16 * 1024;

/// Bytes of the longest words about a fault: they may have names that somebody chose.
const LONGEST_WORDS: usize = 200;

/// Reason not to use a certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unfit {
    /// No certificates, or damaged ones.
    #[error("it cannot be read")]
    Unreadable,
    /// A key of somebody else.
    #[error("it is for another key than ours")]
    OtherKey,
    /// It lacks a domain.
    #[error("it is not for {0}")]
    OtherNames(Domain),
    /// It has ended.
    #[error("it has ended already; is this machine's clock right?")]
    Ended,
    /// It begins in the future.
    #[error("it is not valid yet; is this machine's clock right?")]
    NotYet,
    /// A chain that is too long for devices.
    #[error(
        "its chain has {certificates} certificates with {bytes} bytes; devices take {MOST} with {LONGEST}"
    )]
    TooLong {
        /// Number of certificates.
        certificates: usize,
        /// Bytes of all of them.
        bytes: usize,
    },
    /// Certificates that do not lead from one to the next.
    #[error("its chain does not lead from each certificate to the one that signed it: {0}")]
    Broken(String),
}

/// A certificate that came, with those that signed it.
#[derive(Debug)]
pub(super) struct ReceivedChain {
    certificates: Vec<CertificateDer<'static>>,
    /// Facts of the first, which is the server's own.
    pub(super) facts: Facts,
}

impl ReceivedChain {
    /// Reads PEM, and looks whether it is for a key.
    pub(super) fn read(chain: &str, key: &str) -> Result<Self, Unfit> {
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain.as_bytes()).collect();
        let certificates = certificates.map_err(|_| Unfit::Unreadable)?;
        let own = certificates.first().ok_or(Unfit::Unreadable)?;
        let facts = Facts::read(own).map_err(|_| Unfit::Unreadable)?;
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|_| Unfit::OtherKey)?;
        let key = ring::sign::any_supported_type(&key).map_err(|_| Unfit::OtherKey)?;
        CertifiedKey::new(vec![own.clone()], key).keys_match().map_err(|_| Unfit::OtherKey)?;
        Ok(Self { certificates, facts })
    }

    /// Fails unless it is for all the domains, good now or within `early` milliseconds, and what clients take.
    pub(super) fn check(&self, domains: &[Domain], now: Time, early: u64) -> Result<(), Unfit> {
        let bytes = self.certificates.iter().map(|one| one.len()).sum();
        let certificates = self.certificates.len();
        if certificates > MOST || bytes > LONGEST {
            return Err(Unfit::TooLong { certificates, bytes });
        }
        if let Some(missing) = domains.iter().find(|domain| !self.facts.is_for(domain.as_str())) {
            return Err(Unfit::OtherNames(missing.clone()));
        }
        if self.facts.has_ended(now) {
            return Err(Unfit::Ended);
        }
        if self.facts.begins.0 > now.0.saturating_add(early) {
            return Err(Unfit::NotYet);
        }
        self.links(domains, now.max(self.facts.begins))
    }

    /// Fails unless each certificate is signed by the next, as clients verify it that trust the last one. One alone is signed by a root
    /// that is not here.
    fn links(&self, domains: &[Domain], now: Time) -> Result<(), Unfit> {
        let [own, between @ .., last] = &self.certificates[..] else { return Ok(()) };
        let is_next = |pair: &[CertificateDer<'_>]| matches!(pair, [one, next] if names_as_issuer(one, next));
        // Chips take no others in between, nor another order.
        if !self.certificates.windows(2).all(is_next) {
            return Err(Unfit::Broken("one does not name the next as its issuer".to_owned()));
        }
        let broken = |error: &dyn std::fmt::Display| {
            let mut words = error.to_string();
            text::cut(&mut words, LONGEST_WORDS);
            Unfit::Broken(words)
        };
        let mut roots = RootCertStore::empty();
        roots.add(last.clone()).map_err(|error| broken(&error))?;
        let provider = Arc::new(ring::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
        let verifier = verifier.map_err(|error| broken(&error))?;
        let now = UnixTime::since_unix_epoch(Duration::from_millis(now.0));
        for domain in domains {
            let name = ServerName::try_from(domain.as_str()).map_err(|error| broken(&error))?;
            verifier.verify_server_cert(own, between, &name, &[], now).map_err(|error| broken(&error))?;
        }
        Ok(())
    }
}

fn names_as_issuer(one: &CertificateDer<'_>, next: &CertificateDer<'_>) -> bool {
    let read = |der| X509Certificate::from_der(der).map(|(_, certificate)| certificate).ok();
    let named = |one: X509Certificate<'_>, next: X509Certificate<'_>| {
        one.issuer().as_raw() == next.subject().as_raw()
    };
    read(one).zip(read(next)).is_some_and(|(one, next)| named(one, next))
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

    use super::*;
    use crate::tls::own::for_days;

    const NOW: Time = Time(1_800_000_000_000);
    const DAY: u64 = 24 * 3_600 * 1_000;

    type Ca = CertifiedIssuer<'static, KeyPair>;

    fn authority(name: &str) -> CertificateParams {
        let mut params = for_days(Vec::new(), 100, NOW).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        params
    }

    /// A root, and a CA that it signed.
    fn authorities() -> (Ca, Ca) {
        let key = || KeyPair::generate().unwrap();
        let root = CertifiedIssuer::self_signed(authority("root"), key()).unwrap();
        let between = CertifiedIssuer::signed_by(authority("between"), key(), &root).unwrap();
        (root, between)
    }

    fn domains(names: &[&str]) -> Vec<Domain> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    /// A certificate by this CA, and its key.
    fn issued(by: &Ca) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = for_days(vec!["ota.example.com".to_owned()], 90, NOW).unwrap();
        (params.signed_by(&key, by).unwrap().pem(), key.serialize_pem())
    }

    fn outcome(chain: &[&str], key: &str, names: &[&str], now: Time) -> Result<(), Unfit> {
        ReceivedChain::read(&chain.concat(), key)?.check(&domains(names), now, 0)
    }

    const OURS: &[&str] = &["ota.example.com"];

    #[test]
    fn a_certificate_with_its_chain_is_taken_with_or_without_the_root() {
        let (root, between) = authorities();
        let (own, key) = issued(&between);
        let (root, between) = (root.pem(), between.pem());
        for chain in [&[&own[..]][..], &[&own, &between], &[&own, &between, &root]] {
            assert_eq!(outcome(chain, &key, OURS, NOW), Ok(()), "{}", chain.len());
        }
    }

    #[test]
    fn a_certificate_for_other_names_another_key_or_another_time_is_not_taken() {
        let (_, between) = authorities();
        let ((own, key), (_, other)) = (issued(&between), issued(&between));
        let between = between.pem();
        let chain = &[&own[..], &between][..];
        let missing: Domain = "ota2.example.com".parse().unwrap();
        assert_eq!(
            outcome(chain, &key, &["ota.example.com", "ota2.example.com"], NOW),
            Err(Unfit::OtherNames(missing))
        );
        assert_eq!(outcome(chain, &other, OURS, NOW), Err(Unfit::OtherKey));
        assert_eq!(outcome(chain, "nothing", OURS, NOW), Err(Unfit::OtherKey));
        assert_eq!(outcome(chain, &key, OURS, Time(NOW.0 + 91 * DAY)), Err(Unfit::Ended));
        let before = Time(NOW.0 - 2 * DAY);
        assert_eq!(outcome(chain, &key, OURS, before), Err(Unfit::NotYet));
        let early = ReceivedChain::read(&chain.concat(), &key).unwrap();
        assert_eq!(early.check(&domains(OURS), before, 2 * DAY), Ok(()), "where clocks may differ so much");
        for garbage in ["", "garbage", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            assert_eq!(outcome(&[garbage], &key, OURS, NOW), Err(Unfit::Unreadable), "{garbage}");
        }
    }

    #[test]
    fn a_chain_that_does_not_lead_on_is_not_taken() {
        let (root, between) = authorities();
        let (own, key) = issued(&between);
        // Of the same name, with another key.
        let (_, namesake) = authorities();
        let (root, between, namesake) = (root.pem(), between.pem(), namesake.pem());
        for chain in [
            &[&own[..], &root][..],
            &[&own, &root, &between],
            &[&own, &namesake],
            &[&own, &between, &between],
        ] {
            let refused = outcome(chain, &key, OURS, NOW);
            assert!(matches!(refused, Err(Unfit::Broken(_))), "{refused:?}");
        }
    }

    #[test]
    fn a_chain_that_devices_cannot_read_is_not_taken() {
        let (root, between) = authorities();
        let (own, key) = issued(&between);
        let (root, between) = (root.pem(), between.pem());
        let mut chain = vec![&root[..]; MOST];
        chain[..2].copy_from_slice(&[&own, &between]);
        assert_eq!(outcome(&chain, &key, OURS, NOW), Ok(()));
        chain.push(&root);
        let refused = outcome(&chain, &key, OURS, NOW);
        assert!(matches!(refused, Err(Unfit::TooLong { certificates: 10, .. })), "{refused:?}");
        let mut large = authority("large");
        let names = (0..600).map(|number| format!("{number}.a-long-name-of-a-host.example"));
        large.subject_alt_names =
            CertificateParams::new(names.collect::<Vec<_>>()).unwrap().subject_alt_names;
        let large = CertifiedIssuer::self_signed(large, KeyPair::generate().unwrap()).unwrap();
        let (own, key) = issued(&large);
        let refused = outcome(&[&own, &large.pem()], &key, OURS, NOW);
        assert!(matches!(refused, Err(Unfit::TooLong { certificates: 2, .. })), "{refused:?}");
    }
}
