//! A device as Home Assistant is to see it: pure, from rows to messages.

use otaru_api::Device;
use otaru_format::status::UpdateState;
use serde::Serialize;

use super::choice::Choice;

/// The payload that asks for an installation.
pub const INSTALL: &str = "install";
/// Characters of the longest summary: Home Assistant drops a message with a longer one.
const LONGEST_SUMMARY: usize = 255;

/// Topics of a server's messages.
#[derive(Debug, Clone)]
pub struct EntityTopics {
    /// Prefix that Home Assistant listens to: `homeassistant`.
    pub prefix: String,
    /// Prefix of the devices' topics.
    pub base: String,
    /// Beginning of links for people.
    pub public_base: String,
}

impl EntityTopics {
    /// Returns the topic of a device's description. Home Assistant takes letters, digits, `_` and `-` there; what else a device's id has is
    /// written in hex, so that no two devices meet.
    pub fn discovery(&self, device: &str) -> String {
        format!("{}/update/{}/config", self.prefix, unique(device))
    }

    /// Returns the topic of a device's state.
    pub fn state(&self, device: &str) -> String {
        format!("{}/home-assistant/{device}/state", self.base)
    }

    /// Returns the topic on which an installation is asked for.
    pub fn install(&self, device: &str) -> String {
        format!("{}/home-assistant/{device}/install", self.base)
    }

    /// Topics that are listened to: installations, and Home Assistant's own birth.
    pub fn filters(&self) -> [String; 2] {
        [self.install("+"), self.birth()]
    }

    /// Returns the topic of Home Assistant's birth message.
    pub fn birth(&self) -> String {
        format!("{}/status", self.prefix)
    }

    /// The device that a topic asks an installation for.
    pub fn asked<'t>(&self, topic: &'t str) -> Option<&'t str> {
        let device = topic.strip_prefix(self.base.as_str())?.strip_prefix("/home-assistant/")?;
        device.strip_suffix("/install").filter(|device| !device.contains('/'))
    }
}

/// An id for Home Assistant.
fn unique(device: &str) -> String {
    let mut id = String::from("otaru_");
    for char in device.chars() {
        match char {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '-' => id.push(char),
            // Also the underscore, which begins what is written in hex.
            other => id.push_str(&format!("_{:x}_", u32::from(other))),
        }
    }
    id
}

/// Description of a device: the keys of Home Assistant's MQTT update platform.
#[derive(Debug, Serialize)]
pub struct Description<'a> {
    /// An entity of a device that has its name is called by the device class.
    name: Option<&'a str>,
    unique_id: String,
    device_class: &'static str,
    entity_category: &'static str,
    state_topic: String,
    command_topic: String,
    payload_install: &'static str,
    availability_topic: String,
    payload_available: &'static str,
    payload_not_available: &'static str,
    device: HardwareInfo<'a>,
    origin: Origin,
}

#[derive(Debug, Serialize)]
struct HardwareInfo<'a> {
    identifiers: [String; 1],
    name: &'a str,
    manufacturer: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    model: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    sw_version: &'a str,
    configuration_url: String,
}

#[derive(Debug, Serialize)]
struct Origin {
    name: &'static str,
    sw_version: &'static str,
}

impl<'a> Description<'a> {
    /// Of a device.
    pub fn of(device: &'a Device, choice: &'a Choice, places: &EntityTopics) -> Self {
        Self {
            name: None,
            unique_id: format!("{}_firmware", unique(&device.id)),
            device_class: "firmware",
            entity_category: "config",
            state_topic: places.state(&device.id),
            command_topic: places.install(&device.id),
            payload_install: INSTALL,
            availability_topic: format!("{}/{}/online", places.base, device.id),
            payload_available: "online",
            payload_not_available: "offline",
            device: HardwareInfo {
                identifiers: [unique(&device.id)],
                name: device.label.as_deref().unwrap_or(&device.id),
                manufacturer: "Espressif",
                model: &device.chip,
                sw_version: &choice.runs,
                configuration_url: format!("{}/devices/{}", places.public_base, device.id),
            },
            origin: Origin { name: "Otaru", sw_version: env!("CARGO_PKG_VERSION") },
        }
    }
}

/// The state of a device's firmware. These are all the keys that Home Assistant knows; one it does not know would make it drop the
/// message.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct State<'a> {
    installed_version: &'a str,
    latest_version: &'a str,
    title: &'a str,
    #[serde(skip_serializing_if = "String::is_empty")]
    release_summary: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    release_url: Option<String>,
    in_progress: bool,
    /// `null` while it is not known.
    update_percentage: Option<u8>,
}

impl<'a> State<'a> {
    /// Of a device; `progress` is that of its download, `trouble` what went wrong, the most pressing first.
    pub fn of(
        device: &'a Device,
        choice: &'a Choice,
        progress: Option<u8>,
        trouble: &[String],
        places: &EntityTopics,
    ) -> Self {
        let in_progress = UpdateState::of_name(&device.state).is_under_way() && device.next_trial().is_none();
        let latest = choice.latest.as_ref();
        let withheld = choice.withheld.as_ref().map(|_| sentence(&choice.why_not(device)));
        let notes = latest.map(|latest| latest.notes.clone());
        let parts = trouble.iter().map(|text| sentence(text)).chain(withheld).chain(notes);
        let parts: Vec<String> = parts.filter(|part| !part.is_empty()).collect();
        Self {
            installed_version: &choice.runs,
            // Where there is no newer release, what runs is the latest.
            latest_version: latest.map_or(&choice.runs, |latest| &latest.shown),
            title: &device.product,
            release_summary: summary(&parts.join(" ")),
            release_url: latest.map(|latest| format!("{}/releases/{}", places.public_base, latest.id)),
            in_progress,
            update_percentage: progress.filter(|_| in_progress).map(|percent| percent.min(100)),
        }
    }
}

/// Makes a sentence of a reason.
fn sentence(text: &str) -> String {
    let mut sentence: String = text.trim().to_owned();
    if !sentence.is_empty() && !sentence.ends_with(['.', '!', '?', '…']) {
        sentence.push('.');
    }
    sentence
}

fn summary(notes: &str) -> String {
    match notes.char_indices().nth(LONGEST_SUMMARY) {
        None => notes.to_owned(),
        Some(_) => notes.chars().take(LONGEST_SUMMARY - 1).chain(['…']).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places() -> EntityTopics {
        EntityTopics {
            prefix: "homeassistant".into(),
            base: "ESP32/ota".into(),
            public_base: "http://ota.lan:8080".into(),
        }
    }

    #[test]
    fn topics_lead_back_to_the_device() {
        let places = places();
        for device in ["kitchen", "a:b", "_", "lamp 7", "ü"] {
            assert_eq!(places.asked(&places.install(device)), Some(device));
        }
        for other in [
            "ESP32/ota/kitchen/install",
            "ESP32/ota/home-assistant/a/b/install",
            "x",
            "ESP32/ota/home-assistant/a/state",
        ] {
            assert_eq!(places.asked(other), None, "{other}");
        }
    }

    #[test]
    fn no_two_devices_are_one() {
        let ids = ["a_b", "a:b", "a-b", "a b", "ab", "a_3a_b", "A-b"].map(unique);
        let different: std::collections::BTreeSet<_> = ids.iter().collect();
        assert_eq!(different.len(), ids.len(), "{ids:?}");
        assert!(
            ids.iter().all(|id| id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte)))
        );
    }

    #[test]
    fn a_summary_fits() {
        assert_eq!(summary("short"), "short");
        assert_eq!(summary(&"ü".repeat(255)).chars().count(), 255);
        let cut = summary(&"ü".repeat(256));
        assert_eq!((cut.chars().count(), cut.chars().last()), (255, Some('…')));
    }
}
