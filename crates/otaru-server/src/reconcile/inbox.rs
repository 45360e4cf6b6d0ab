//! Takes in what comes from the broker. Messages of one device in their order, those of many at once.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use otaru_format::status::Status;
use otaru_format::topic::{Topics, all, device_of};
use otaru_rollout::DeviceId;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::ingest;
use crate::app::Shared;
use crate::db::DbError;

/// How many devices' messages are taken in at the same time: as many writes share a transaction.
const LANES: usize = 128;
/// Messages that may wait in a lane. A lane that is full makes the broker wait.
const WAITING: usize = 64;
/// How long a device that has connected has for its first report.
const GREETING: std::time::Duration = std::time::Duration::from_millis(1_500);
/// After this long the broker has done with a connection whose last will it has told.
const SETTLED: std::time::Duration = std::time::Duration::from_secs(3);

/// What the server wants to hear.
pub fn filters(base: &str) -> [String; 2] {
    [all(base, "status").as_str().to_owned(), all(base, "online").as_str().to_owned()]
}

/// A message from the broker.
#[derive(Debug)]
pub struct Heard {
    /// Its topic.
    pub topic: String,
    /// What it says.
    pub payload: Vec<u8>,
    /// Whether the broker had kept it.
    pub retained: bool,
}

/// Where messages go.
pub struct Inbox {
    lanes: Vec<mpsc::Sender<(DeviceId, Said)>>,
    app: Shared,
    _tasks: JoinSet<()>,
}

#[derive(Debug)]
enum Said {
    Report { report: Box<Status<String>>, live: bool },
    Presence { online: bool, anew: bool },
}

impl Inbox {
    /// Opens it. `may_register` says whether a device that is not known may become so by reporting.
    pub fn open(app: Shared, may_register: bool) -> Self {
        let mut tasks = JoinSet::new();
        let lanes = (0..LANES).map(|_| {
            let (sender, receiver) = mpsc::channel(WAITING);
            tasks.spawn(lane(app.clone(), receiver, may_register));
            sender
        });
        Self { lanes: lanes.collect(), app, _tasks: tasks }
    }

    /// Takes a message; waits while there are too many.
    pub async fn take(&self, heard: Heard) {
        self.app.metrics.received.inc();
        let Some((device, said)) = read(&self.app.config.base, &heard) else {
            tracing::debug!(topic = %heard.topic, "a message that says nothing");
            return;
        };
        let mut hasher = DefaultHasher::new();
        device.hash(&mut hasher);
        let lane = usize::try_from(hasher.finish() % LANES as u64).unwrap_or(0);
        // Lanes end with the server only.
        if let Some(lane) = self.lanes.get(lane) {
            let _ = lane.send((device, said)).await;
        }
    }
}

async fn lane(app: Shared, mut receiver: mpsc::Receiver<(DeviceId, Said)>, may_register: bool) {
    let mut arrivals = Arrivals::default();
    loop {
        let (device, said) = tokio::select! {
            message = receiver.recv() => match message {
                Some(message) => message,
                None => return,
            },
            device = arrivals.next() => (device, Said::Presence { online: true, anew: false }),
        };
        let taken = match said {
            Said::Report { report, live } => {
                ingest::take_report(&app, &device, *report, may_register, live).await
            }
            Said::Presence { online: true, anew: true } => {
                arrivals.expect(device);
                continue;
            }
            Said::Presence { online: false, .. } if app.connections.has(device.as_str()) => {
                tokio::spawn(look_again(app.clone(), device.clone()));
                Ok(())
            }
            Said::Presence { online, .. } => {
                // Whoever waits to be greeted was sent something that may be lost.
                let anew = arrivals.forget(&device) && online;
                ingest::take_presence(&app, &device, online, anew, may_register).await
            }
        };
        match taken {
            Ok(()) => {}
            Err(DbError::Closed) => return,
            // The device reports again; retained reports come again with the next connection.
            Err(error) => tracing::error!(%device, %error, "a report was not taken in"),
        }
    }
}

/// Devices that have just connected. Their first report follows at once and says what has become of what they were asked to do, so
/// it is let pass: an offer made anew before would reach a device that has just gone back to its old image, and be refused.
#[derive(Debug, Default)]
struct Arrivals(VecDeque<(Instant, DeviceId)>);

impl Arrivals {
    fn expect(&mut self, device: DeviceId) {
        self.forget(&device);
        self.0.push_back((Instant::now() + GREETING, device));
    }

    /// Says whether it was waiting.
    fn forget(&mut self, device: &DeviceId) -> bool {
        let before = self.0.len();
        self.0.retain(|(_, waiting)| waiting != device);
        self.0.len() < before
    }

    /// The next whose time has come; it still counts as waiting.
    async fn next(&self) -> DeviceId {
        match self.0.front() {
            Some((until, device)) => {
                tokio::time::sleep_until(*until).await;
                device.clone()
            }
            None => std::future::pending().await,
        }
    }
}

/// A device is said to be gone, and is connected: either the broker has not yet done with its broken connection, or it is back.
async fn look_again(app: Shared, device: DeviceId) {
    tokio::time::sleep(SETTLED).await;
    if app.connections.has(device.as_str()) {
        return;
    }
    if let Err(error) = ingest::take_presence(&app, &device, false, false, false).await {
        tracing::error!(%device, %error, "that a device is gone was not taken in");
    }
}

fn read(base: &str, heard: &Heard) -> Option<(DeviceId, Said)> {
    let id = |name: &str| Topics::new(base, name).ok().map(|_| DeviceId::from(name));
    if let Some(name) = device_of(base, &heard.topic, "online") {
        let online = match heard.payload.as_slice() {
            b"online" => true,
            b"offline" => false,
            _ => return None,
        };
        return Some((id(name)?, Said::Presence { online, anew: !heard.retained }));
    }
    let name = device_of(base, &heard.topic, "status")?;
    let report: Box<Status<String>> = serde_json::from_slice(&heard.payload).ok()?;
    // A report in somebody else's name is nobody's.
    let own = report.device == name;
    own.then_some((id(name)?, Said::Report { report, live: !heard.retained }))
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
