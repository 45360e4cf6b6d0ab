//! Certificates and keys that are replaced while the server runs: files are looked at every few seconds, and at once when asked to.

use std::fs::Metadata;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use otaru_rollout::Time;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::error::TlsError;
use super::facts::Facts;
use super::live::LiveCertificate;
use super::pair::PairFiles;
use crate::clock::Clock;

/// Interval of looking: two calls of the system, which cost nothing worth mentioning.
const LOOK: Duration = Duration::from_secs(2);
/// Time before its end in which a certificate is told to be about to end.
const SOON: u64 = 14 * DAY;
/// Interval of telling it.
const DAY: u64 = 24 * 3_600 * 1_000;

/// Files as they were when they were looked at last. Not their contents: whoever writes a file changes one of these.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen([Option<Stamp>; 2]);

type Stamp = (u64, Option<std::time::SystemTime>, (u64, i64, i64));

impl Seen {
    fn now(files: &PairFiles) -> Self {
        Self([&files.certificate, &files.key].map(|path| stamp(path)))
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let found = path.metadata().ok()?;
    Some((found.len(), found.modified().ok(), identity(&found)))
}

/// A file that took the other's place, or whose permissions changed, is seen by these.
#[cfg(unix)]
fn identity(found: &Metadata) -> (u64, i64, i64) {
    use std::os::unix::fs::MetadataExt as _;
    (found.ino(), found.ctime(), found.ctime_nsec())
}

#[cfg(not(unix))]
fn identity(_: &Metadata) -> (u64, i64, i64) {
    (0, 0, 0)
}

/// Outcome of a look at the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// Nothing changed.
    Same,
    /// The new pair is in use.
    Replaced,
    /// The new pair will not do; the old one stays.
    Kept,
}

/// Watcher of a certificate's files.
pub struct Reload {
    files: PairFiles,
    live: Arc<LiveCertificate>,
    seen: Seen,
}

impl Reload {
    /// Reads the files for the first time.
    ///
    /// # Errors
    /// When they cannot be used.
    pub fn open(files: PairFiles) -> Result<Self, TlsError> {
        let seen = Seen::now(&files);
        let pair = files.read()?;
        if files.is_key_open_to_others() {
            let key = files.key.display();
            tracing::warn!(%key, "everybody on this machine may read the TLS key; `chmod o= ` it");
        }
        Ok(Self { files, live: Arc::new(LiveCertificate::new(pair)), seen })
    }

    /// Returns the certificate in use.
    pub fn live(&self) -> Arc<LiveCertificate> {
        Arc::clone(&self.live)
    }

    /// Looks whether the files have changed, and takes what they have now if it will do. A pair is written in two steps: what does not
    /// fit after the first is tried again after the second.
    pub fn look(&mut self) -> Look {
        let seen = Seen::now(&self.files);
        if seen == self.seen {
            return Look::Same;
        }
        self.seen = seen;
        match self.files.read() {
            Ok(pair) => {
                let ends = humane(&pair.facts);
                self.live.replace(pair);
                tracing::info!(%ends, "the new TLS certificate is in use");
                Look::Replaced
            }
            Err(error) => {
                tracing::error!(%error, "the old TLS certificate stays in use");
                Look::Kept
            }
        }
    }

    /// Looks every few seconds, and whenever `now` is rung, until `stop`.
    pub async fn run(mut self, now: Arc<Notify>, clock: Clock, stop: CancellationToken) {
        let mut told = None;
        loop {
            tell_end(&self.live.facts(), clock.now(), &mut told);
            let mut asked = false;
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK) => {}
                () = now.notified() => asked = true,
            }
            if self.look() == Look::Same && asked {
                tracing::info!("the files of the TLS certificate have not changed");
            }
        }
    }
}

/// Tells once a day that a certificate has ended or is about to.
fn tell_end(facts: &Facts, now: Time, told: &mut Option<Time>) {
    let is_due = told.is_none_or(|told| now.0.saturating_sub(told.0) >= DAY);
    if !is_due || now.0.saturating_add(SOON) < facts.ends.0 && now >= facts.begins {
        return;
    }
    *told = Some(now);
    let ends = humane(facts);
    if now < facts.begins {
        tracing::error!(
            "the TLS certificate is not good yet: clients refuse it; is this machine's clock right?"
        );
    } else if facts.has_ended(now) {
        tracing::error!(%ends, "the TLS certificate has ended: clients refuse it; replace its files");
    } else {
        tracing::warn!(%ends, "the TLS certificate is about to end; replace its files");
    }
}

fn humane(facts: &Facts) -> String {
    let ends = i64::try_from(facts.ends.0).ok().and_then(otaru_api::Timestamp::from_millis);
    ends.map_or_else(|| "in a far future".to_owned(), |ends| ends.to_string())
}
