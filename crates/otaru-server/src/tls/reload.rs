//! Certificates and keys that are replaced while the server runs: files are looked at every few seconds, and at once when asked to.

use std::sync::Arc;
use std::time::Duration;

use otaru_rollout::Time;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::error::TlsError;
use super::facts::Facts;
use super::live::LiveCertificate;
use super::pair::PairFiles;
use super::seen::Seen;
use crate::clock::Clock;

/// Interval of looking: two calls of the system, which cost nothing worth mentioning.
const LOOK: Duration = Duration::from_secs(2);
/// Time before its end in which a certificate is told to be about to end; a sixth of its lifetime if that is less.
const SOON: u64 = 14 * DAY;
/// Interval of telling it.
const DAY: u64 = 24 * 3_600 * 1_000;

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
        let seen = look_at(&files);
        let pair = files.read()?;
        if files.is_key_open_to_others() {
            let key = files.key.display();
            tracing::warn!(%key, "everybody on this machine may read the TLS key; `chmod o= ` it");
        }
        Ok(Self { files, live: Arc::new(LiveCertificate::new(Some(pair))), seen })
    }

    /// Reads files that the server writes itself, and that may not be there yet, or be damaged: then it writes others.
    pub fn wait_for(files: PairFiles) -> Self {
        let (seen, pair) = (look_at(&files), files.read());
        if let Err(error) = &pair
            && files.certificate.exists()
        {
            tracing::error!(%error, "there was a TLS certificate, which cannot be used; another is got");
        }
        Self { files, live: Arc::new(LiveCertificate::new(pair.ok())), seen }
    }

    /// Returns the certificate in use.
    pub fn live(&self) -> Arc<LiveCertificate> {
        Arc::clone(&self.live)
    }

    /// Looks whether the files have changed, and takes what they have now if it will do. A pair is written in two steps: what does not
    /// fit after the first is tried again after the second.
    pub fn look(&mut self) -> Look {
        let seen = look_at(&self.files);
        if seen == self.seen {
            return Look::Same;
        }
        self.seen = seen;
        match self.files.read() {
            Ok(pair) => {
                let ends = pair.facts.ends_in_words();
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

    /// Looks every few seconds, and whenever `now` is rung, until `stop`. `ends` is told the last moment of the certificate in use.
    pub async fn run(mut self, now: Arc<Notify>, clock: Clock, ends: impl Fn(Time), stop: CancellationToken) {
        let mut told = None;
        loop {
            if let Some(facts) = self.live.facts() {
                ends(facts.ends);
                tell_end(&facts, clock.now(), &mut told);
            }
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

fn look_at(files: &PairFiles) -> Seen {
    Seen::now(&[&files.certificate, &files.key])
}

/// Tells once a day that a certificate has ended or is about to.
fn tell_end(facts: &Facts, now: Time, told: &mut Option<Time>) {
    let is_due = told.is_none_or(|told| now.0.saturating_sub(told.0) >= DAY);
    let soon = SOON.min(facts.ends.since(facts.begins).0 / 6);
    if !is_due || now.0.saturating_add(soon) < facts.ends.0 && now >= facts.begins {
        return;
    }
    *told = Some(now);
    let ends = facts.ends_in_words();
    if now < facts.begins {
        tracing::error!(
            "the TLS certificate is not good yet: clients refuse it; is this machine's clock right?"
        );
    } else if facts.has_ended(now) {
        tracing::error!(%ends, "the TLS certificate has ended: clients refuse it; replace its files, or see why --acme does not");
    } else {
        tracing::warn!(%ends, "the TLS certificate is about to end; replace its files, or see why --acme does not");
    }
}
