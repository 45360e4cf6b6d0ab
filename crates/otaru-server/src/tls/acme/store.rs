//! Account, certificate and past orders of one directory, in the data folder, for their owner only. Each directory has a folder of its own:
//! who tries another and comes back finds everything as it was.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use instant_acme::AccountCredentials;
use otaru_format::digest::Digest;
use otaru_rollout::Time;
use zeroize::Zeroizing;

use super::schedule::{self, Issued};
use crate::data_dir::{make_private, write_private};
use crate::tls::error::TlsError;
use crate::tls::pair::PairFiles;

/// Characters of the longest name of a folder.
const LONGEST_NAME: usize = 120;
/// Bytes of the largest file of an account or of orders.
const LARGEST: u64 = 64 * 1024;

/// Folder of a directory.
#[derive(Debug, Clone)]
pub(super) struct Store {
    folder: PathBuf,
}

impl Store {
    /// Opens that of a directory in the folder of TLS.
    pub(super) fn open(tls: &Path, directory: &str) -> Result<Self, TlsError> {
        let store = Self { folder: tls.join("acme").join(folder_name(directory)) };
        make_private(&store.folder).map_err(|error| store.failed(error))?;
        Ok(store)
    }

    /// Returns the files of certificate and key: one, so that both are replaced together.
    pub(super) fn files(&self) -> PairFiles {
        let file = self.folder.join("certificate.pem");
        PairFiles { certificate: file.clone(), key: file }
    }

    /// Returns the account, if there is one that can be read.
    pub(super) fn account(&self) -> Option<AccountCredentials> {
        let text = Zeroizing::new(self.read("account.json")?);
        serde_json::from_slice(&text).ok()
    }

    /// Keeps an account.
    pub(super) fn keep_account(&self, account: &AccountCredentials) -> Result<(), TlsError> {
        let text = serde_json::to_vec(account).map_err(|error| self.failed(error.into()))?;
        self.write("account.json", &Zeroizing::new(text))
    }

    /// Forgets the account, since the directory has.
    pub(super) fn forget_account(&self) {
        let _ = fs::remove_file(self.folder.join("account.json"));
    }

    /// Returns moments of past orders.
    pub(super) fn orders(&self) -> Vec<Time> {
        let text = self.read("orders.json").unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// Notes an order, before it is made.
    pub(super) fn note_order(&self, now: Time) -> Result<(), TlsError> {
        let mut orders: Vec<Time> = schedule::recent(&self.orders(), now).collect();
        orders.push(now);
        let text = serde_json::to_vec(&orders).map_err(|error| self.failed(error.into()))?;
        self.write("orders.json", &text)
    }

    /// Returns the certificates that were issued lately.
    pub(super) fn issued(&self) -> Vec<Issued> {
        let text = self.read("issued.json").unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// Notes a certificate that was issued, whatever becomes of it.
    pub(super) fn note_issued(&self, one: Issued, now: Time) -> Result<(), TlsError> {
        let mut issued: Vec<Issued> = schedule::lately(&self.issued(), now).collect();
        issued.push(one);
        let text = serde_json::to_vec(&issued).map_err(|error| self.failed(error.into()))?;
        self.write("issued.json", &text)
    }

    /// Returns the files of a certificate that just came, to be looked at. The key stands first, so that none which came with the
    /// chain is taken for it.
    pub(super) fn receive(&self, chain: &str, key: &str) -> Result<PairFiles, TlsError> {
        let text = Zeroizing::new(format!("{key}\n{chain}"));
        self.write("received.pem", text.as_bytes())?;
        let file = self.folder.join("received.pem");
        Ok(PairFiles { certificate: file.clone(), key: file })
    }

    /// Puts the certificate that came in the place of the one before.
    pub(super) fn take(&self, received: &PairFiles) -> Result<(), TlsError> {
        fs::rename(&received.certificate, self.files().certificate).map_err(|error| self.failed(error))
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
        let received = store.receive("chain", "key").unwrap();
        store.take(&received).unwrap();
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&store.folder), 0o700);
        for file in fs::read_dir(&store.folder).unwrap() {
            assert_eq!(mode(&file.unwrap().path()), 0o600);
        }
        assert_eq!(fs::read_to_string(store.files().key).unwrap(), "key\nchain");
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
        for name in ["orders.json", "account.json"] {
            for damage in [vec![b'x'; 7], too_long.clone().into_bytes()] {
                fs::write(store.folder.join(name), damage).unwrap();
                assert!(store.orders().is_empty() || name != "orders.json");
                assert!(store.account().is_none());
            }
        }
    }
}
