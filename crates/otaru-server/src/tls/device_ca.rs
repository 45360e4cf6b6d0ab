//! Authorities of devices, whose file may change while the server runs: who connects from then on is held against the new ones. A file that was
//! emptied trusts nobody any more; one that is damaged or gone changes nothing.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::error::TlsError;
use super::live::LiveCertificate;
use super::pair::certificates;
use super::seen::Seen;
use super::settings::mqtts;
use super::socket::MqttTls;

/// Interval of looking at the file.
const LOOK: Duration = Duration::from_secs(2);
/// Bytes of the longest file that may be an empty one.
const LONGEST_BLANK: u64 = 4096;

/// Watcher of the authorities' file.
pub struct DeviceCa {
    file: PathBuf,
    live: Arc<LiveCertificate>,
    mqtt: MqttTls,
    seen: Seen,
    /// Number of authorities that are trusted.
    count: usize,
}

impl DeviceCa {
    /// Reads the file for the first time, if there is one, and returns what MQTTS speaks with it.
    ///
    /// # Errors
    /// When it cannot be used.
    pub fn open(
        file: Option<PathBuf>,
        live: &Arc<LiveCertificate>,
    ) -> Result<(MqttTls, Option<Self>), TlsError> {
        let seen = file.as_ref().map(|file| Seen::now(&[file]));
        let authorities = file.as_deref().map(certificates).transpose()?.unwrap_or_default();
        let count = authorities.len();
        let mqtt = MqttTls::new(mqtts(Arc::clone(live), authorities)?);
        let watched = file.zip(seen).map(|(file, seen)| {
            let (live, mqtt) = (Arc::clone(live), mqtt.clone());
            Self { file, live, mqtt, seen, count }
        });
        Ok((mqtt, watched))
    }

    /// Looks at the file every few seconds, for ever; `trusted` is told the number of authorities that are trusted.
    pub async fn run(mut self, trusted: impl Fn(usize)) {
        loop {
            trusted(self.count);
            tokio::time::sleep(LOOK).await;
            self.look();
        }
    }

    /// Takes what the file has now, if it changed and will do.
    fn look(&mut self) {
        let seen = Seen::now(&[&self.file]);
        if seen == self.seen {
            return;
        }
        self.seen = seen;
        match self.take() {
            Ok(0) => tracing::warn!(
                file = %self.file.display(),
                "the file of --device-ca was emptied: no device's certificate is trusted any more"
            ),
            Ok(count) => tracing::info!(count, "the new authorities of devices are in use"),
            Err(error) => tracing::error!(%error, "the old authorities of devices stay in use"),
        }
    }

    /// Trusts what the file has now; returns how many authorities those are.
    fn take(&mut self) -> Result<usize, TlsError> {
        let authorities = if is_empty(&self.file) { Vec::new() } else { certificates(&self.file)? };
        let count = authorities.len();
        self.mqtt.replace(mqtts(Arc::clone(&self.live), authorities)?);
        self.count = count;
        Ok(count)
    }
}

/// Whether a file is there and has nothing but blanks: what is left of one that somebody has emptied.
fn is_empty(file: &Path) -> bool {
    file.metadata().is_ok_and(|found| found.len() <= LONGEST_BLANK)
        && std::fs::read(file).is_ok_and(|text| text.iter().all(u8::is_ascii_whitespace))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::device::authority;

    fn pem(name: &str) -> String {
        authority(name, 10, otaru_rollout::Time(1_800_000_000_000)).unwrap().certificate
    }

    /// Puts a file in the place of another.
    fn replace(file: &Path, text: &str) {
        let next = file.with_extension("next");
        std::fs::write(&next, text).unwrap();
        std::fs::rename(next, file).unwrap();
    }

    fn open(file: &Path) -> Result<DeviceCa, TlsError> {
        let live = Arc::new(LiveCertificate::new(None));
        DeviceCa::open(Some(file.to_owned()), &live).map(|(_, watched)| watched.unwrap())
    }

    #[test]
    fn a_file_that_was_emptied_trusts_nobody_and_one_that_is_damaged_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("devices.pem");
        let (first, second) = (pem("first"), pem("second"));
        replace(&file, &first);
        let mut watched = open(&file).unwrap();
        assert_eq!(watched.count, 1);
        let blank = " ".repeat(5_000);
        for (text, trusted) in [
            (first.clone() + &second, 2),
            ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned(), 2),
            ("see the other file\n".to_owned(), 2),
            (blank, 2),
            (second.clone(), 1),
            (String::new(), 0),
            (first.clone() + "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", 0),
            (first, 1),
            (" \n\n".to_owned(), 0),
        ] {
            replace(&file, &text);
            watched.look();
            assert_eq!(watched.count, trusted, "{text}");
        }
        replace(&file, &second);
        watched.look();
        std::fs::remove_file(&file).unwrap();
        watched.look();
        assert_eq!(watched.count, 1, "a file that is gone");
    }

    #[test]
    fn a_start_needs_an_authority() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("devices.pem");
        std::fs::write(&file, "").unwrap();
        let error = open(&file).err().unwrap().to_string();
        assert!(error.contains("has no certificate"), "{error}");
    }
}
