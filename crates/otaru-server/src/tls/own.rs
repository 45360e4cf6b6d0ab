//! An authority of the server's own, for whoever has no certificate: made once, kept in the data folder, and trusted by who is given
//! its certificate. What it signs has every name and address of this machine, and is made anew when these change or its time ends.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use otaru_rollout::Time;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use sha2::Digest as _;

use super::error::TlsError;
use super::facts::Facts;
use super::pair::PairFiles;
use crate::data_dir::{make_private, write_private};

/// Days of the authority.
const AUTHORITY_DAYS: u64 = 3_650;
/// Days of what it signs: browsers take no more than 398 of most.
const DAYS: u64 = 365;
/// Milliseconds of a day.
const DAY: u64 = 24 * 3_600 * 1_000;
/// The most addresses that a certificate names; a machine with many containers has hundreds, and a chip reads all of it.
const MOST_ADDRESSES: usize = 24;

/// Names and addresses of this machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    /// Host names.
    pub hosts: BTreeSet<String>,
    /// Addresses.
    pub addresses: BTreeSet<IpAddr>,
}

impl Names {
    /// Returns those of this machine, and the host under which others are sent here.
    pub fn of_this_machine(public_host: Option<&str>) -> Self {
        let mut names = Self::default();
        names.hosts.insert("localhost".to_owned());
        names.addresses.extend([IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()]);
        let uname = rustix::system::uname();
        let host = uname.nodename().to_str().unwrap_or_default();
        names.add_host(host);
        if !host.contains('.') {
            names.add_host(&format!("{host}.local"));
        }
        if let Some(host) = public_host {
            names.add(host);
        }
        for interface in if_addrs::get_if_addrs().unwrap_or_default() {
            // A link's own addresses of IPv6 are no use without the link.
            let is_link_local = matches!(interface.ip(), IpAddr::V6(ip) if ip.is_unicast_link_local());
            if names.addresses.len() < MOST_ADDRESSES && !is_link_local {
                names.addresses.insert(interface.ip());
            }
        }
        names
    }

    /// Adds a host, or an address with or without brackets.
    fn add(&mut self, host: &str) {
        let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        match bare.parse() {
            Ok(address) => drop(self.addresses.insert(address)),
            Err(_) => self.add_host(host),
        }
    }

    fn add_host(&mut self, host: &str) {
        let good = |byte: u8| byte.is_ascii_alphanumeric() || b".-".contains(&byte);
        if !host.is_empty() && host.len() <= 253 && host.bytes().all(good) {
            self.hosts.insert(host.to_ascii_lowercase());
        }
    }

    /// Whether a certificate has all of them.
    fn are_in(&self, facts: &Facts) -> bool {
        self.hosts.iter().all(|host| facts.dns_names.contains(host))
            && self.addresses.iter().all(|address| facts.addresses.contains(address))
    }
}

/// The authority of a server.
#[derive(Debug, Clone)]
pub struct OwnAuthority {
    folder: PathBuf,
}

impl OwnAuthority {
    /// Opens that in a folder, or makes one there.
    ///
    /// # Errors
    /// When the folder cannot be used, or the files there are damaged.
    pub fn open(folder: &Path, now: Time) -> Result<Self, TlsError> {
        let own = Self { folder: folder.to_owned() };
        make_private(folder).map_err(|error| own.failed(error))?;
        let has_ended = match Facts::read(&own.certificate_der()?.unwrap_or_default()) {
            Ok(facts) => facts.has_ended(now),
            Err(_) if own.certificate().exists() => return Err(own.damaged("it is no certificate")),
            Err(_) => true,
        };
        if has_ended {
            own.make(now)?;
        }
        Ok(own)
    }

    /// Returns the file of its certificate, which others are to trust.
    pub fn certificate(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// Returns the SHA-256 of its certificate, as browsers and openssl show it.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn fingerprint(certificate: &Path) -> Result<String, TlsError> {
        let chain = super::pair::certificates(certificate)?;
        let first = chain.first().ok_or_else(|| TlsError::NoCertificate(certificate.to_owned()))?;
        let pairs: Vec<String> =
            sha2::Sha256::digest(first).iter().map(|byte| format!("{byte:02X}")).collect();
        Ok(pairs.join(":"))
    }

    /// Returns the file of the server's certificate and key.
    pub fn files(&self) -> PairFiles {
        // Both in one, so that they are replaced together.
        let file = self.folder.join("server.pem");
        PairFiles { certificate: file.clone(), key: file }
    }

    /// Signs a new certificate for the server where there is none with these names, or where two thirds of its time are over. Returns
    /// whether it did.
    ///
    /// # Errors
    /// When a file cannot be read or written.
    pub fn renew(&self, names: &Names, now: Time) -> Result<bool, TlsError> {
        if let Ok(pair) = self.files().read() {
            let facts = &pair.facts;
            let third = facts.ends.since(facts.begins).0 / 3;
            if names.are_in(facts) && now.0.saturating_add(third) < facts.ends.0 && self.is_own() {
                return Ok(false);
            }
        }
        let read = |path: PathBuf| {
            fs::read_to_string(&path).map_err(|error| TlsError::Read { path: path.clone(), error })
        };
        let authority = KeyPair::from_pem(&read(self.key())?).map_err(|error| self.damaged(error))?;
        let certificate = read(self.certificate())?;
        let issuer =
            Issuer::from_ca_cert_pem(&certificate, authority).map_err(|error| self.damaged(error))?;
        let key = KeyPair::generate().map_err(setup)?;
        let mut params = for_days(names.hosts.iter().cloned().collect(), DAYS, now)?;
        let addresses = names.addresses.iter().map(|address| rcgen::SanType::IpAddress(*address));
        params.subject_alt_names.extend(addresses);
        params.distinguished_name.push(DnType::CommonName, "Otaru");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let signed = params.signed_by(&key, &issuer).map_err(setup)?;
        let text = format!("{}{certificate}{}", signed.pem(), key.serialize_pem());
        self.write(&self.files().key, text.as_bytes())?;
        Ok(true)
    }

    /// Whether the server's certificate came from the present authority: the chain in its file ends with that.
    fn is_own(&self) -> bool {
        let chain = super::pair::certificates(&self.files().certificate).unwrap_or_default();
        let own = self.certificate_der().ok().flatten();
        chain.last().map(|last| last.to_vec()) == own
    }

    /// Makes the authority.
    fn make(&self, now: Time) -> Result<(), TlsError> {
        let key = KeyPair::generate().map_err(setup)?;
        let mut params = for_days(Vec::new(), AUTHORITY_DAYS, now)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        // Several servers of one person are told apart by it.
        let mark = crate::secret::password().map_err(setup)?;
        let mark: String = mark.chars().filter(char::is_ascii_alphanumeric).take(6).collect();
        params.distinguished_name.push(DnType::CommonName, format!("Otaru's own authority {mark}"));
        let certificate = params.self_signed(&key).map_err(setup)?;
        self.write(&self.key(), key.serialize_pem().as_bytes())?;
        self.write(&self.certificate(), certificate.pem().as_bytes())
    }

    fn key(&self) -> PathBuf {
        self.folder.join("ca.key")
    }

    fn certificate_der(&self) -> Result<Option<Vec<u8>>, TlsError> {
        let path = self.certificate();
        match fs::read(&path) {
            Ok(text) => {
                let der = CertificateDer::from_pem_slice(&text).map_err(|error| self.damaged(error))?;
                Ok(Some(der.to_vec()))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(TlsError::Read { path, error }),
        }
    }

    /// Writes a file for its owner only, whole or not at all.
    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), TlsError> {
        write_private(path, bytes).map_err(|error| self.failed(error))
    }

    fn failed(&self, error: io::Error) -> TlsError {
        TlsError::Write { folder: self.folder.clone(), error }
    }

    fn damaged(&self, why: impl std::fmt::Display) -> TlsError {
        TlsError::Damaged { path: self.certificate(), why: why.to_string() }
    }
}

/// Parameters that are good from yesterday, for clocks that are late, for so many days.
pub(super) fn for_days(hosts: Vec<String>, days: u64, now: Time) -> Result<CertificateParams, TlsError> {
    let mut params = CertificateParams::new(hosts).map_err(setup)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    let at = |millis: u64| date_time_ymd(1970, 1, 1) + std::time::Duration::from_millis(millis);
    params.not_before = at(now.0.saturating_sub(DAY));
    params.not_after = at(now.0 + days * DAY);
    Ok(params)
}

fn setup(error: impl std::fmt::Display) -> TlsError {
    TlsError::Setup(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time(1_800_000_000_000);

    fn later(days: u64) -> Time {
        Time(NOW.0 + days * DAY)
    }

    fn ca(own: &OwnAuthority) -> String {
        fs::read_to_string(own.certificate()).unwrap()
    }

    #[test]
    fn an_authority_is_made_once_and_signs_for_all_names() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tls");
        let own = OwnAuthority::open(&path, NOW).unwrap();
        let mut names = Names::of_this_machine(Some("ota.example.com"));
        names.add("[2001:db8::7]");
        assert!(own.renew(&names, NOW).unwrap());
        let first = ca(&own);
        let facts = own.files().read().unwrap().facts;
        for host in ["localhost", "127.0.0.1", "[::1]", "ota.example.com", "[2001:db8::7]"] {
            assert!(facts.is_for(host), "{host}: {facts:?}");
        }
        assert!(facts.dns_names.iter().any(|name| name.ends_with(".local") || name.contains('.')));
        let again = OwnAuthority::open(&path, later(1)).unwrap();
        assert!(!again.renew(&names, later(1)).unwrap(), "nothing changed");
        assert_eq!(ca(&again), first);
        assert!(!again.renew(&Names::default(), later(1)).unwrap(), "a network that is gone may come back");
    }

    #[test]
    fn a_certificate_is_renewed_for_new_names_and_in_its_last_third() {
        let folder = tempfile::tempdir().unwrap();
        let own = OwnAuthority::open(folder.path(), NOW).unwrap();
        let mut names = Names::default();
        names.add_host("one");
        assert!(own.renew(&names, NOW).unwrap());
        names.add("192.0.2.7");
        assert!(own.renew(&names, NOW).unwrap());
        assert!(!own.renew(&names, later(200)).unwrap());
        assert!(own.renew(&names, later(300)).unwrap());
        let authority = ca(&own);
        assert!(!own.renew(&names, later(301)).unwrap());
        let next = OwnAuthority::open(folder.path(), later(AUTHORITY_DAYS + 1)).unwrap();
        assert_ne!(ca(&next), authority, "its time is over, too");
        assert!(next.renew(&names, later(AUTHORITY_DAYS + 1)).unwrap());
    }

    #[cfg(unix)]
    #[test]
    fn keys_are_for_their_owner_only() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tls");
        let own = OwnAuthority::open(&path, NOW).unwrap();
        own.renew(&Names::default(), NOW).unwrap();
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&own.key()), mode(&own.files().key), mode(&path)), (0o600, 0o600, 0o700));
    }

    #[test]
    fn a_damaged_authority_is_told_and_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let own = OwnAuthority::open(folder.path(), NOW).unwrap();
        fs::write(own.certificate(), "nonsense").unwrap();
        let error = OwnAuthority::open(folder.path(), NOW).unwrap_err().to_string();
        assert!(error.contains("is damaged"), "{error}");
    }

    #[test]
    fn a_host_is_a_name_or_an_address() {
        let mut names = Names::default();
        for bad in ["", "a b", "ä", "x_y"] {
            names.add(bad);
        }
        assert_eq!(names, Names::default());
    }
}
