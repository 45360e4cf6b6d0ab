//! A fleet as its broker shows it: each device's last report and whether it is online. No I/O here.

pub(crate) mod changes;
pub(crate) mod on_broker;
pub(crate) mod table;
pub(crate) mod words;

use std::collections::BTreeMap;

use otaru_format::status::Status;
use otaru_format::topic::{self, Topic};

/// Most devices that are kept: a broker that invents names must not fill the memory.
const MOST: usize = 200_000;

/// A device as its messages show it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Device {
    /// Whether it is connected; unknown before it said so.
    pub(crate) online: Option<bool>,
    /// Last report.
    pub(crate) status: Option<Status<String>>,
}

/// A change that a message brought. Names are as they came and not to be trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// A device came or went.
    Online(String, bool),
    /// A device reported.
    Report(String),
    /// A device's retained report was taken away.
    Forgotten(String),
    /// A report could not be read.
    Unreadable(String, String),
}

/// All devices under one base topic.
#[derive(Debug)]
pub(crate) struct Fleet {
    base: String,
    devices: BTreeMap<String, Device>,
}

impl Fleet {
    /// Nobody yet.
    pub(crate) fn new(base: &str) -> Self {
        Self { base: base.to_owned(), devices: BTreeMap::new() }
    }

    /// Topics to subscribe to.
    pub(crate) fn filters(&self) -> [Topic; 2] {
        [topic::all(&self.base, "status"), topic::all(&self.base, "online")]
    }

    /// Takes a message; says what it changed, if anything.
    pub(crate) fn take(&mut self, topic: &str, payload: &[u8]) -> Option<Change> {
        if let Some(name) = topic::device_of(&self.base, topic, "online") {
            let online = match payload {
                b"online" => true,
                b"offline" => false,
                _ => return None,
            };
            let device = self.entry(name)?;
            let changed = device.online.replace(online) != Some(online);
            return changed.then(|| Change::Online(name.to_owned(), online));
        }
        let name = topic::device_of(&self.base, topic, "status")?;
        if payload.is_empty() {
            self.devices.get_mut(name)?.status = None;
            return Some(Change::Forgotten(name.to_owned()));
        }
        match otaru_server::reconcile::report::read(payload) {
            Ok(status) => {
                self.entry(name)?.status = Some(status);
                Some(Change::Report(name.to_owned()))
            }
            Err(error) => Some(Change::Unreadable(name.to_owned(), error.to_string())),
        }
    }

    fn entry(&mut self, name: &str) -> Option<&mut Device> {
        if !self.devices.contains_key(name) && self.devices.len() >= MOST {
            return None;
        }
        Some(self.devices.entry(name.to_owned()).or_default())
    }

    /// The device of this name.
    pub(crate) fn get(&self, name: &str) -> Option<&Device> {
        self.devices.get(name)
    }

    /// Returns a device's last report.
    pub(crate) fn status(&self, name: &str) -> Option<&Status<String>> {
        self.get(name)?.status.as_ref()
    }

    /// All devices, by name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Device)> {
        self.devices.iter().map(|(name, device)| (name.as_str(), device))
    }

    /// The names of those that are connected.
    pub(crate) fn online(&self) -> impl Iterator<Item = &str> {
        self.iter().filter(|(_, device)| device.online == Some(true)).map(|(name, _)| name)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use otaru_format::digest::Digest;
    use otaru_format::status::UpdateState;

    /// A report of a device in this state, running an image made of `version`.
    pub(crate) fn status(device: &str, state: UpdateState, version: &str) -> Status<String> {
        Status {
            device: device.into(),
            chip: "esp32c3".into(),
            state,
            project: "p".into(),
            product: None,
            version: version.into(),
            image: Digest::of(version.as_bytes()),
            slot: 0,
            confirmed: true,
            progress: None,
            attempt: 0,
            deployment: None,
            error: None,
            failed: None,
            guards_lost: false,
            left_tls: false,
            tls: None,
            boot: "power_on".into(),
            uptime: 1,
            rssi: None,
            free_heap: None,
            free_stack: None,
            order: None,
            epoch: None,
            boots: None,
            n: None,
        }
    }

    fn json(status: &Status<String>) -> Vec<u8> {
        serde_json::to_vec(status).unwrap()
    }

    #[test]
    fn reports_and_presence_make_a_device() {
        let mut fleet = Fleet::new("a/b");
        let report = json(&status("x", UpdateState::Idle, "1"));
        assert_eq!(fleet.take("a/b/x/online", b"online"), Some(Change::Online("x".into(), true)));
        assert_eq!(fleet.take("a/b/x/online", b"online"), None);
        assert_eq!(fleet.take("a/b/x/status", &report), Some(Change::Report("x".into())));
        assert_eq!(fleet.online().collect::<Vec<_>>(), ["x"]);
        assert_eq!(fleet.status("x").unwrap().version, "1");
        assert_eq!(fleet.take("a/b/x/online", b"offline"), Some(Change::Online("x".into(), false)));
        assert_eq!(fleet.online().count(), 0);
        assert_eq!(fleet.take("a/b/x/status", b""), Some(Change::Forgotten("x".into())));
        assert!(fleet.status("x").is_none());
    }

    #[test]
    fn other_topics_and_nonsense_change_nothing() {
        let mut fleet = Fleet::new("a/b");
        for topic in ["a/b/update", "a/b/x/update", "a/b/x/y/status", "other/x/online", "a/b//online"] {
            assert_eq!(fleet.take(topic, b"online"), None, "{topic}");
        }
        assert_eq!(fleet.take("a/b/x/online", b"maybe"), None);
        assert!(matches!(fleet.take("a/b/x/status", b"{"), Some(Change::Unreadable(..))));
        assert_eq!(fleet.iter().count(), 0);
    }

    #[test]
    fn fields_of_later_versions_are_passed_over() {
        let mut value = serde_json::to_value(status("x", UpdateState::Trial, "1")).unwrap();
        value["later"] = serde_json::json!({"a": [1]});
        let mut fleet = Fleet::new("b");
        assert_eq!(fleet.take("b/x/status", value.to_string().as_bytes()), Some(Change::Report("x".into())));
    }
}
