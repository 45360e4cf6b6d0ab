//! Takes in what comes from the broker. Messages of one device in their order, those of many at once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use otaru_format::topic::{Topics, all, device_of};
use otaru_rollout::DeviceId;
use tokio::sync::{Notify, Semaphore};

use super::ingest;
use super::mailbox::{DeviceMessage, Mailbox, Next};
use super::report;
use crate::app::Shared;
use crate::db::DbError;
use crate::devices::recent::Came;

/// Number of devices whose messages are taken in concurrently: as many writes share a transaction.
const AT_ONCE: usize = 128;
/// Time for a device that has connected to send its first report.
const GREETING: std::time::Duration = std::time::Duration::from_millis(1_500);
/// After this long the broker has done with a connection whose last will it has told.
const SETTLED: std::time::Duration = std::time::Duration::from_secs(3);

/// Time for which messages of another server's devices are kept: longer than it takes to replace a server that is gone.
const FOREIGN: std::time::Duration = std::time::Duration::from_secs(30);

/// The pause between two lines in the log about reports that were not taken in.
const COMPLAINTS: std::time::Duration = std::time::Duration::from_secs(5);

/// Returns the topics that the server wants to hear.
pub fn filters(base: &str) -> [String; 2] {
    [all(base, "status").as_str().to_owned(), all(base, "online").as_str().to_owned()]
}

/// Pause before what a database that is away did not take is tried again.
const OUTAGE: std::time::Duration = std::time::Duration::from_millis(500);
/// Bytes that such a message is counted with: as many as a long report has.
const OUTAGE_BYTES: usize = 1_024;

/// Whether a message is done with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Taken {
    /// It is taken in, or nobody's.
    Done,
    /// It is of another server's device.
    ByOthers,
    /// The database is away.
    Later,
}

/// A message from the broker.
#[derive(Debug)]
pub struct Heard {
    /// The topic.
    pub topic: String,
    /// The payload.
    pub payload: Vec<u8>,
    /// Whether the broker had kept it.
    pub retained: bool,
}

/// Inbox of the devices' messages. Clones are the same one.
#[derive(Clone)]
pub struct Inbox(Arc<Inner>);

struct Inner {
    mailbox: Mutex<Mailbox>,
    /// The newest of devices that are another server's, for when they become this one's.
    foreign: Mutex<Mailbox>,
    /// There is something new in it.
    filled: Notify,
    /// There is nothing in it any more.
    emptied: Notify,
    arrivals: Arrivals,
    /// Time of the last log line about a failure.
    complained: Mutex<Option<Instant>>,
    app: Shared,
    may_register: bool,
}

impl Inbox {
    /// Opens it. `may_register` says whether a device that is not known may become so by reporting.
    pub fn open(app: Shared, may_register: bool) -> Self {
        let (mailbox, foreign, arrivals) = (Mutex::default(), Mutex::default(), Arrivals::default());
        let (filled, emptied) = (Notify::new(), Notify::new());
        let complained = Mutex::default();
        Self(Arc::new(Inner { mailbox, foreign, filled, emptied, arrivals, complained, app, may_register }))
    }

    /// Puts a message in; never waits.
    pub fn put(&self, heard: &Heard) {
        self.0.app.metrics.received.inc();
        match read(&self.0.app.config.base, heard) {
            Some((device, said)) => self.0.put(device, said, heard.payload.len()),
            None => tracing::debug!(topic = %heard.topic, "a message that says nothing"),
        }
    }

    /// Takes in what is put in, until this is dropped.
    pub async fn run(&self) {
        tokio::join!(self.work(), self.0.look_after_foreign());
    }

    async fn work(&self) {
        let workers = Arc::new(Semaphore::new(AT_ONCE));
        loop {
            let Ok(permit) = Arc::clone(&workers).acquire_owned().await else { return };
            let (device, said) = self.0.next().await;
            let inner = Arc::clone(&self.0);
            tokio::spawn(async move {
                let again = said.clone();
                match inner.take(&device, said).await {
                    Taken::Done => {}
                    // Another server heard it as well. It may have lost the device before it took this in, and the device may come back here.
                    Taken::ByOthers => {
                        lock(&inner.foreign).put_back(&device, again, OUTAGE_BYTES, Instant::now());
                    }
                    Taken::Later => {
                        // Nothing is lost meanwhile but what is newer replaces.
                        inner.lock().put_back(&device, again, OUTAGE_BYTES, Instant::now());
                        tokio::time::sleep(OUTAGE).await;
                    }
                }
                inner.done(&device);
                drop(permit);
            });
        }
    }

    /// Resolves when messages found no room and there is some again, with how many there were.
    pub async fn missed(&self) -> u64 {
        loop {
            let missed = self.0.lock().missed();
            if missed > 0 {
                return missed;
            }
            self.0.emptied.notified().await;
        }
    }
}

impl Inner {
    fn put(&self, device: DeviceId, said: DeviceMessage, bytes: usize) {
        if !self.app.holdings.has_device(device.as_str()) {
            lock(&self.foreign).put(device, said, bytes, Instant::now());
            return;
        }
        self.lock().put(device, said, bytes, Instant::now());
        self.filled.notify_one();
    }

    /// Takes up what other servers' devices said when they become this one's; forgets it when those have had the time to take it in.
    async fn look_after_foreign(&self) {
        let mut taken_over = self.app.wake.shards.subscribe();
        loop {
            tokio::select! {
                changed = taken_over.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(FOREIGN / 4) => {}
            }
            let own = {
                let mut foreign = lock(&self.foreign);
                // While this server's own leases have lapsed, the database is away, and nobody takes anything in.
                let moment = Instant::now().checked_sub(FOREIGN).filter(|_| self.app.holdings.are_good());
                if let Some(moment) = moment {
                    foreign.forget_before(moment);
                }
                foreign.take_of(|device| self.app.holdings.has_device(device.as_str()))
            };
            own.into_iter().for_each(|(device, said, bytes)| self.put(device, said, bytes));
        }
    }

    async fn next(&self) -> (DeviceId, DeviceMessage) {
        loop {
            let next = self.lock().next(Instant::now());
            let until = match next {
                Next::Take(device, said) => return (device, said),
                Next::Nothing(until) => until,
            };
            let later = async {
                match until {
                    Some(until) => tokio::time::sleep_until(until.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = later => {}
                () = self.filled.notified() => {}
            }
        }
    }

    fn done(&self, device: &DeviceId) {
        self.lock().done(device, Instant::now());
        // It may have something more.
        self.filled.notify_one();
        self.emptied.notify_one();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Mailbox> {
        lock(&self.mailbox)
    }

    async fn take(self: &Arc<Self>, device: &DeviceId, said: DeviceMessage) -> Taken {
        let app = &self.app;
        let Some(claim) = app.holdings.claim_device(device.as_str()) else {
            // It became another server's while it waited; or, while the database is away, nobody's.
            return Taken::ByOthers;
        };
        let taken = match said {
            DeviceMessage::Report { report, live } => {
                let came = if live { Came::Live } else { Came::Kept };
                ingest::take_report_as(app, claim, device, *report, self.may_register, came).await
            }
            DeviceMessage::Presence { online: true, anew: true } => {
                let turn = self.arrivals.expect(device.clone());
                tokio::spawn(Arc::clone(self).greet(device.clone(), turn));
                Ok(())
            }
            DeviceMessage::Presence { online: false, .. } if app.connections.has(device.as_str()) => {
                tokio::spawn(look_again(app.clone(), device.clone()));
                Ok(())
            }
            DeviceMessage::Presence { online, anew: heard } => {
                // Whoever waits to be greeted was sent something that may be lost.
                let is_expected = self.arrivals.forget(device);
                let anew = if online { is_expected } else { heard };
                ingest::take_presence_as(app, claim, device, online, anew, self.may_register).await
            }
        };
        match taken {
            Ok(()) | Err(DbError::Closed) => {}
            Err(DbError::NotHeld) => return Taken::ByOthers,
            // The device reports again; retained reports come again with the next connection.
            Err(error) => {
                if !error.is_outage() && self.may_complain() {
                    tracing::error!(%device, %error, "reports are not taken in");
                }
                if error.is_passing() {
                    return Taken::Later;
                }
            }
        }
        Taken::Done
    }

    /// Whether a failure is told: a fleet on a full disk would fill the log as well.
    fn may_complain(&self) -> bool {
        let mut last = self.complained.lock().unwrap_or_else(PoisonError::into_inner);
        let may = last.is_none_or(|last| last.elapsed() >= COMPLAINTS);
        if may {
            *last = Some(Instant::now());
        }
        may
    }

    /// Lets the first report of a device that has connected pass, then says that it is there.
    async fn greet(self: Arc<Self>, device: DeviceId, turn: u64) {
        tokio::time::sleep(GREETING).await;
        if self.arrivals.is_expected(&device, turn) {
            self.put(device, DeviceMessage::Presence { online: true, anew: false }, 0);
        }
    }
}

fn lock(mailbox: &Mutex<Mailbox>) -> std::sync::MutexGuard<'_, Mailbox> {
    mailbox.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Devices that have just connected. Their first report follows at once and says what has become of what they were asked to do, so
/// it is let pass: an offer made anew before would reach a device that has just gone back to its old image, and be refused.
#[derive(Debug, Default)]
struct Arrivals(Mutex<(u64, HashMap<DeviceId, u64>)>);

impl Arrivals {
    /// Gives a number by which a later connection is told from this one.
    fn expect(&self, device: DeviceId) -> u64 {
        let mut all = self.lock();
        all.0 += 1;
        let turn = all.0;
        all.1.insert(device, turn);
        turn
    }

    /// Says whether it was waiting.
    fn forget(&self, device: &DeviceId) -> bool {
        self.lock().1.remove(device).is_some()
    }

    fn is_expected(&self, device: &DeviceId, turn: u64) -> bool {
        self.lock().1.get(device) == Some(&turn)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, (u64, HashMap<DeviceId, u64>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A device is said to be gone, and is connected: either the broker has not yet done with its broken connection, or it is back.
async fn look_again(app: Shared, device: DeviceId) {
    tokio::time::sleep(SETTLED).await;
    if app.connections.has(device.as_str()) {
        return;
    }
    if let Err(error) = ingest::take_presence(&app, &device, false, true, false).await
        && !error.is_outage()
    {
        tracing::error!(%device, %error, "that a device is gone was not taken in");
    }
}

fn read(base: &str, heard: &Heard) -> Option<(DeviceId, DeviceMessage)> {
    let id = |name: &str| Topics::new(base, name).ok().map(|_| DeviceId::from(name));
    if let Some(name) = device_of(base, &heard.topic, "online") {
        let online = match heard.payload.as_slice() {
            b"online" => true,
            b"offline" => false,
            _ => return None,
        };
        return Some((id(name)?, DeviceMessage::Presence { online, anew: !heard.retained }));
    }
    let name = device_of(base, &heard.topic, "status")?;
    let report = Box::new(report::read(&heard.payload).ok()?);
    // A report in somebody else's name is nobody's.
    let own = report.device == name;
    own.then_some((id(name)?, DeviceMessage::Report { report, live: !heard.retained }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_of_the_device_in_their_topic() {
        let read = |topic: &str, payload: &str| {
            let (topic, payload) = (topic.to_owned(), payload.as_bytes().to_vec());
            read("ESP32/ota", &Heard { topic, payload, retained: true }).map(|(device, _)| device.to_string())
        };
        let report = |device: &str| {
            format!(
                r#"{{"device":"{device}","chip":"esp32","state":"idle","project":"p","version":"1","slot":0,"confirmed":true,
                    "image":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","boot":"power_on","uptime":1}}"#
            )
        };
        assert_eq!(read("ESP32/ota/a/online", "online").as_deref(), Some("a"));
        assert_eq!(read("ESP32/ota/a/status", &report("a")).as_deref(), Some("a"));
        for (topic, payload) in [
            ("ESP32/ota/a/status", report("b")),
            ("ESP32/ota/a/status", String::new()),
            ("ESP32/ota/a/status", "{}".into()),
            ("ESP32/ota/a/online", "maybe".into()),
            ("ESP32/ota/a/update", "online".into()),
            ("ESP32/other/a/online", "online".into()),
        ] {
            assert_eq!(read(topic, &payload), None, "{topic}: {payload}");
        }
    }
}
