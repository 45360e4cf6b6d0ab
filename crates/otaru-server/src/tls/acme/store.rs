//! Account, certificate and orders of one directory, in the data folder, for their owner only. Each directory has a folder of its own:
//! who tries another and comes back finds everything as it was.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use instant_acme::AccountCredentials;
use otaru_format::digest::Digest;
use otaru_rollout::Time;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::pending::PendingOrder;
use super::schedule::{self, Issued};
use crate::data_dir::{make_private, write_private};
use crate::tls::error::TlsError;
use crate::tls::pair::PairFiles;

/// Characters of the longest name of a folder.
const LONGEST_NAME: usize = 120;
/// Bytes of the largest file of an account or of orders.
const LARGEST: u64 = 64 * 1024;
/// Names of the files.
const ACCOUNT: &str = "account.json";
const CERTIFICATE: &str = "certificate.pem";
const PENDING: &str = "pending.json";
const ORDERS: &str = "orders.json";
const ISSUED: &str = "issued.json";

/// Folder of a directory.
#[derive(Debug, Clone)]
pub(super) struct Store {
    folder: PathBuf,
    /// URL of the directory.
    directory: String,
}

/// The part of an account's file that is looked at.
#[derive(Deserialize)]
struct MadeAt {
    directory: String,
}

impl Store {
    /// Opens that of a directory in the folder of TLS.
    pub(super) fn open(tls: &Path, directory: &str) -> Result<Self, TlsError> {
        let folder = tls.join("acme").join(folder_name(directory));
        let store = Self { folder, directory: directory.to_owned() };
        make_private(&store.folder).map_err(|error| store.failed(error))?;
        Ok(store)
    }

    /// Returns the files of certificate and key: one, so that both are replaced together.
    pub(super) fn files(&self) -> PairFiles {
        let file = self.folder.join(CERTIFICATE);
        PairFiles { certificate: file.clone(), key: file }
    }

    /// Returns the account, if there is one of this directory that can be read.
    pub(super) fn account(&self) -> Option<AccountCredentials> {
        let text = Zeroizing::new(self.read(ACCOUNT)?);
        let made: MadeAt = serde_json::from_slice(&text).ok()?;
        (made.directory == self.directory).then(|| serde_json::from_slice(&text).ok()).flatten()
    }

    /// Keeps an account. One that was there before stays beside it.
    pub(super) fn keep_account(&self, account: &AccountCredentials) -> Result<(), TlsError> {
        let text = Zeroizing::new(serde_json::to_vec(account).map_err(|error| self.failed(error.into()))?);
        self.set_aside(ACCOUNT)?;
        self.write(ACCOUNT, &text)
    }

    /// Puts the account aside, since the directory does not know it; returns the file that it is in now.
    pub(super) fn set_account_aside(&self) -> Result<PathBuf, TlsError> {
        let aside = self.set_aside(ACCOUNT)?;
        self.remove(ACCOUNT)?;
        Ok(aside)
    }

    /// Returns the order that is under way, if there is one whose certificate is not here yet.
    pub(super) fn pending(&self) -> Option<PendingOrder> {
        let text = Zeroizing::new(self.read(PENDING)?);
        let pending: PendingOrder = serde_json::from_slice(&text).ok()?;
        let certificate = Zeroizing::new(fs::read(self.files().key).unwrap_or_default());
        let rest = certificate.strip_prefix(pending.key.as_bytes());
        (!rest.is_some_and(|rest| rest.starts_with(b"\n"))).then_some(pending)
    }

    /// Keeps an order until its certificate is here.
    pub(super) fn keep_pending(&self, order: &PendingOrder) -> Result<(), TlsError> {
        let text = serde_json::to_vec(order).map_err(|error| self.failed(error.into()))?;
        self.write(PENDING, &Zeroizing::new(text))
    }

    /// Forgets the order that is under way, and its key.
    pub(super) fn forget_pending(&self) -> Result<(), TlsError> {
        self.remove(PENDING)
    }

    /// Returns moments of past orders.
    pub(super) fn orders(&self) -> Vec<Time> {
        let text = self.read(ORDERS).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// Notes an order, before it is made.
    pub(super) fn note_order(&self, now: Time) -> Result<(), TlsError> {
        let mut orders: Vec<Time> = schedule::recent(&self.orders(), now).collect();
        orders.push(now);
        let text = serde_json::to_vec(&orders).map_err(|error| self.failed(error.into()))?;
        self.write(ORDERS, &text)
    }

    /// Returns the certificates that were issued lately.
    pub(super) fn issued(&self) -> Vec<Issued> {
        let text = self.read(ISSUED).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// Notes a certificate that was issued, once, whatever becomes of it.
    pub(super) fn note_issued(&self, one: Issued, now: Time) -> Result<(), TlsError> {
        let mut issued: Vec<Issued> = schedule::lately(&self.issued(), now).collect();
        if !issued.iter().any(|known| known.is_same(&one)) {
            issued.push(one);
        }
        let text = serde_json::to_vec(&issued).map_err(|error| self.failed(error.into()))?;
        self.write(ISSUED, &text)
    }

    /// Puts a certificate that came in the place of the one before, which stays beside it until the next. The key stands first, so that
    /// none which came with the chain is taken for it.
    pub(super) fn take(&self, chain: &str, key: &str) -> Result<(), TlsError> {
        self.set_aside(CERTIFICATE)?;
        self.write(CERTIFICATE, Zeroizing::new(format!("{key}\n{chain}")).as_bytes())
    }

    /// Copies a file, if it is there, to one beside it, which is returned; in place of the one that was there.
    fn set_aside(&self, name: &str) -> Result<PathBuf, TlsError> {
        let aside = format!("{name}.previous");
        match fs::read(self.folder.join(name)) {
            Ok(bytes) => self.write(&aside, &Zeroizing::new(bytes))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(self.failed(error)),
        }
        Ok(self.folder.join(aside))
    }

    fn remove(&self, name: &str) -> Result<(), TlsError> {
        match fs::remove_file(self.folder.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.failed(error)),
            _ => Ok(()),
        }
    }

    fn read(&self, name: &str) -> Option<Vec<u8>> {
        let path = self.folder.join(name);
        let fits = path.metadata().is_ok_and(|found| found.len() <= LARGEST);
        fits.then(|| fs::read(path).ok()).flatten()
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), TlsError> {
        write_private(&self.folder.join(name), bytes).map_err(|error| self.failed(error))
    }

    fn failed(&self, error: io::Error) -> TlsError {
        TlsError::Write { folder: self.folder.clone(), error }
    }
}

/// Returns the name of a directory's folder: its URL, in characters that every system of files takes.
fn folder_name(directory: &str) -> String {
    let url = directory.strip_prefix("https://").unwrap_or(directory);
    let plain = |letter: char| match letter {
        '.' | '-' => letter,
        letter if letter.is_ascii_alphanumeric() => letter,
        _ => '_',
    };
    let name: String = url.chars().map(plain).take(LONGEST_NAME).collect();
    // Other URLs may have the same characters.
    let digest = hex::encode(Digest::of(directory.as_bytes()).0.get(..4).unwrap_or_default());
    format!("{}-{digest}", name.trim_start_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_directory_has_a_folder_of_its_own() {
        let known = folder_name("https://acme-v02.api.letsencrypt.org/directory");
        assert!(known.starts_with("acme-v02.api.letsencrypt.org_directory-"), "{known}");
        assert!(folder_name("https://../../etc").starts_with("_.._etc-"));
        assert_eq!(folder_name(&"a".repeat(9_999)).len(), LONGEST_NAME + 9);
        assert_ne!(folder_name("https://ca/a_b"), folder_name("https://ca/a/b"));
    }

    #[cfg(unix)]
    #[test]
    fn what_is_kept_is_for_its_owner_only() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("tls"), "https://ca.example/dir").unwrap();
        store.note_order(Time(7)).unwrap();
        store.keep_account(&account("https://ca.example/dir")).unwrap();
        store.keep_pending(&pending("key of the next")).unwrap();
        store.take("first chain", "first key").unwrap();
        store.take("chain", "key").unwrap();
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&store.folder), 0o700);
        let files: Vec<PathBuf> =
            fs::read_dir(&store.folder).unwrap().map(|file| file.unwrap().path()).collect();
        assert_eq!(files.len(), 5, "{files:?}");
        assert!(files.iter().all(|file| mode(file) == 0o600));
    }

    fn account(directory: &str) -> AccountCredentials {
        let made =
            serde_json::json!({ "id": "https://ca/account/7", "key_pkcs8": "AAAA", "directory": directory });
        serde_json::from_value(made).unwrap()
    }

    fn pending(key: &str) -> PendingOrder {
        let (url, domains) = ("https://ca/order/7".to_owned(), vec!["ota.example.com".parse().unwrap()]);
        PendingOrder { url, domains, key: key.to_owned().into(), at: Time(7) }
    }

    #[test]
    fn the_certificate_before_stays_until_the_next_renewal() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), "https://ca.example").unwrap();
        let text = |name: &str| fs::read_to_string(store.folder.join(name)).ok();
        for (number, previous) in [(1, None), (2, Some("key 1\nchain 1")), (3, Some("key 2\nchain 2"))] {
            store.take(&format!("chain {number}"), &format!("key {number}")).unwrap();
            assert_eq!(text("certificate.pem"), Some(format!("key {number}\nchain {number}")));
            assert_eq!(text("certificate.pem.previous").as_deref(), previous);
        }
    }

    #[test]
    fn an_order_is_kept_until_its_certificate_is_here() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), "https://ca.example").unwrap();
        assert!(store.pending().is_none());
        store.keep_pending(&pending("key")).unwrap();
        store.take("chain", "key of another").unwrap();
        let found = store.pending().unwrap();
        assert_eq!((found.url.as_str(), found.key.as_str()), ("https://ca/order/7", "key"));
        // Its end may come before the order is forgotten.
        store.take("chain", "key").unwrap();
        assert!(store.pending().is_none());
        store.keep_pending(&pending("next key")).unwrap();
        store.forget_pending().unwrap();
        store.forget_pending().unwrap();
        assert!(store.pending().is_none() && !store.folder.join(PENDING).exists());
    }

    #[test]
    fn an_account_is_of_its_directory_and_another_takes_no_ones_place() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), "https://ca.example").unwrap();
        let aside = store.folder.join("account.json.previous");
        store.keep_account(&account("https://ca.example")).unwrap();
        assert!(store.account().is_some() && !aside.exists());
        let file = store.folder.join(ACCOUNT);
        let elsewhere = fs::read_to_string(&file).unwrap().replace("ca.example", "other.example");
        fs::write(&file, &elsewhere).unwrap();
        assert!(store.account().is_none(), "made at another directory");
        store.keep_account(&account("https://ca.example")).unwrap();
        assert_eq!(fs::read_to_string(&aside).unwrap(), elsewhere);
        let known = fs::read(&file).unwrap();
        assert_eq!(store.set_account_aside().unwrap(), aside);
        assert!(store.account().is_none() && !file.exists() && fs::read(&aside).unwrap() == known);
    }

    #[test]
    fn orders_are_kept_for_an_hour_and_damaged_files_are_as_none() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), "https://ca.example").unwrap();
        for minute in 0..200 {
            store.note_order(Time(minute * 60_000)).unwrap();
        }
        assert_eq!(store.orders().len(), 60);
        let too_long = format!("[7{}]", " ".repeat(LARGEST as usize));
        for name in [ORDERS, ACCOUNT, PENDING] {
            for damage in [vec![b'x'; 7], too_long.clone().into_bytes()] {
                fs::write(store.folder.join(name), damage).unwrap();
                assert!(store.orders().is_empty() || name != ORDERS);
                assert!(store.account().is_none() && store.pending().is_none());
            }
        }
    }
}
