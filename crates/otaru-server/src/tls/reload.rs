//! Certificates and keys that are replaced while the server runs: files are looked at every few seconds, and at once when asked to.

use std::sync::Arc;
use std::time::Duration;

use otaru_rollout::Time;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::error::TlsError;
use super::facts::Facts;
use super::live::LiveCertificate;
use super::pair::{Pair, PairFiles};
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
    /// The new pair is not valid yet; the old one, which is, stays until it is.
    Waits,
    /// The new pair will not do; the old one stays.
    Kept,
}

/// Watcher of a certificate's files.
pub struct Reload {
    files: PairFiles,
    live: Arc<LiveCertificate>,
    seen: Seen,
    /// A pair that is not valid yet.
    next: Option<Pair>,
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
        Ok(Self { files, live: Arc::new(LiveCertificate::new(Some(pair))), seen, next: None })
    }

    /// Reads files that the server writes itself, and that may not be there yet, or be damaged: then it writes others.
    pub fn wait_for(files: PairFiles) -> Self {
        let (seen, pair) = (look_at(&files), files.read());
        if let Err(error) = &pair
            && files.certificate.exists()
        {
            tracing::error!(%error, "there was a TLS certificate, which cannot be used; another is got");
        }
        Self { files, live: Arc::new(LiveCertificate::new(pair.ok())), seen, next: None }
    }

    /// Returns the certificate in use.
    pub fn live(&self) -> Arc<LiveCertificate> {
        Arc::clone(&self.live)
    }

    /// Looks whether the files have changed, and takes what they have now if it will do. A pair is written in two steps: what does not
    /// fit after the first is tried again after the second.
    pub fn look(&mut self, now: Time) -> Look {
        let has_good = self.live.facts().is_some_and(|facts| facts.is_valid(now));
        let waits = |pair: &Pair| has_good && pair.facts.begins > now;
        let seen = look_at(&self.files);
        if seen == self.seen {
            let next = self.next.take_if(|next| !waits(next));
            return next.map_or(Look::Same, |next| self.replace(next));
        }
        self.seen = seen;
        self.next = None;
        match self.files.read() {
            Ok(pair) if waits(&pair) => {
                let begins = pair.facts.begins_in_words();
                tracing::warn!(%begins, "the new TLS certificate is not valid yet: the old one is served until then");
                self.next = Some(pair);
                Look::Waits
            }
            Ok(pair) => self.replace(pair),
            Err(error) => {
                tracing::error!(%error, "the old TLS certificate stays in use");
                Look::Kept
            }
        }
    }

    fn replace(&self, pair: Pair) -> Look {
        let ends = pair.facts.ends_in_words();
        self.live.replace(pair);
        tracing::info!(%ends, "the new TLS certificate is in use");
        Look::Replaced
    }

    /// Looks every few seconds, and whenever `now` is rung, until `stop`. `ends` is told the last moment of the certificate in use.
    pub async fn run(mut self, now: Arc<Notify>, clock: Clock, ends: impl Fn(Time), stop: CancellationToken) {
        let mut told = None;
        loop {
            if let Some(facts) = self.live.facts() {
                ends(facts.ends);
                tell_dates(&facts, clock.now(), &mut told);
            }
            let mut asked = false;
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK) => {}
                () = now.notified() => asked = true,
            }
            if self.look(clock.now()) == Look::Same && asked {
                tracing::info!("the files of the TLS certificate have not changed");
            }
        }
    }
}

fn look_at(files: &PairFiles) -> Seen {
    Seen::now(&[&files.certificate, &files.key])
}

/// Fault of a certificate's dates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DatesFault {
    /// It is not valid yet.
    NotYet,
    /// It is about to end.
    EndsSoon,
    /// It has ended.
    Ended,
}

impl DatesFault {
    fn of(facts: &Facts, now: Time) -> Option<Self> {
        let soon = SOON.min(facts.ends.since(facts.begins).0 / 6);
        match () {
            () if now < facts.begins => Some(Self::NotYet),
            () if facts.has_ended(now) => Some(Self::Ended),
            () if now.0.saturating_add(soon) >= facts.ends.0 => Some(Self::EndsSoon),
            () => None,
        }
    }

    fn tell(self, facts: &Facts) {
        let (begins, ends) = (facts.begins_in_words(), facts.ends_in_words());
        match self {
            Self::NotYet => tracing::error!(
                %begins,
                "the TLS certificate is not valid yet, and is served all the same: clients refuse it; is this machine's clock right?"
            ),
            Self::EndsSoon => tracing::warn!(
                %ends,
                "the TLS certificate is about to end; replace its files, or see why --acme does not"
            ),
            Self::Ended => tracing::error!(
                %ends,
                "the TLS certificate has ended: clients refuse it; replace its files, or see why --acme does not"
            ),
        }
    }
}

/// Tells the fault of a certificate's dates, once a day.
fn tell_dates(facts: &Facts, now: Time, told: &mut Option<Time>) {
    let is_due = told.is_none_or(|told| now.0.saturating_sub(told.0) >= DAY);
    if let Some(fault) = DatesFault::of(facts, now).filter(|_| is_due) {
        *told = Some(now);
        fault.tell(facts);
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rcgen::KeyPair;

    use super::*;
    use crate::tls::own::for_days;

    const NOW: Time = Time(1_800_000_000_000);

    fn days(days: u64) -> Time {
        Time(NOW.0 + days * DAY)
    }

    /// Writes a certificate that is valid from a day before `from`, for so many days.
    fn write(folder: &Path, from: Time, days: u64) -> PairFiles {
        let key = KeyPair::generate().unwrap();
        let certificate =
            for_days(vec!["a.example".to_owned()], days, from).unwrap().self_signed(&key).unwrap();
        let (file, written) = (folder.join("both.pem"), folder.join("written.pem"));
        std::fs::write(&written, certificate.pem() + &key.serialize_pem()).unwrap();
        std::fs::rename(written, &file).unwrap();
        PairFiles { certificate: file.clone(), key: file }
    }

    #[test]
    fn a_certificate_of_the_future_waits_until_then_while_the_old_one_is_good() {
        let folder = tempfile::tempdir().unwrap();
        let mut reload = Reload::open(write(folder.path(), NOW, 90)).unwrap();
        let live = reload.live();
        let old = live.facts().unwrap();
        write(folder.path(), days(11), 90);
        assert_eq!(reload.look(NOW), Look::Waits);
        assert_eq!(reload.look(days(9)), Look::Same);
        assert_eq!(live.facts().unwrap(), old);
        assert_eq!(reload.look(days(10)), Look::Replaced);
        assert_eq!(live.facts().unwrap().begins, days(10));
        // Where files change again, what waited is forgotten.
        write(folder.path(), days(40), 90);
        assert_eq!(reload.look(days(20)), Look::Waits);
        let newest = write(folder.path(), days(20), 90).read().unwrap().facts;
        assert_eq!(reload.look(days(20)), Look::Replaced);
        assert_eq!(reload.look(days(50)), Look::Same);
        assert_eq!(live.facts().unwrap(), newest);
    }

    #[test]
    fn a_certificate_of_the_future_is_served_where_there_is_none_that_is_good() {
        let folder = tempfile::tempdir().unwrap();
        let mut reload = Reload::open(write(folder.path(), days(5), 90)).unwrap();
        let live = reload.live();
        assert_eq!(live.facts().unwrap().begins, days(4), "a start has nothing else");
        write(folder.path(), days(3), 90);
        assert_eq!(reload.look(NOW), Look::Replaced);
        assert_eq!(live.facts().unwrap().begins, days(2));
        // The old one ends before the new one begins.
        write(folder.path(), days(200), 90);
        assert_eq!(reload.look(days(10)), Look::Waits);
        assert_eq!(reload.look(days(100)), Look::Replaced);
    }

    #[test]
    fn faults_of_dates_are_told_once_a_day() {
        let folder = tempfile::tempdir().unwrap();
        let facts = write(folder.path(), days(1), 90).read().unwrap().facts;
        for (now, fault) in [
            (Time(NOW.0 - 1), Some(DatesFault::NotYet)),
            (NOW, None),
            (days(75), None),
            (days(78), Some(DatesFault::EndsSoon)),
            (days(91), Some(DatesFault::EndsSoon)),
            (Time(days(91).0 + 1), Some(DatesFault::Ended)),
        ] {
            assert_eq!(DatesFault::of(&facts, now), fault, "{now:?}");
        }
        let mut told = None;
        for (now, last) in [(80, 80), (81, 81), (81, 81), (95, 95)] {
            tell_dates(&facts, days(now), &mut told);
            assert_eq!(told, Some(days(last)));
        }
        tell_dates(&facts, Time(days(95).0 + DAY - 1), &mut told);
        assert_eq!(told, Some(days(95)));
    }
}
