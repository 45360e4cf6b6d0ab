//! MQTT topic names.

use core::fmt;

use crate::name::{self, BadName};

/// The base the first boards used.
pub const DEFAULT_BASE: &str = "ESP32/ota";
pub use crate::name::MAX_NAME;

/// A topic name.
pub type Topic = heapless::String<160>;

/// The topics of one device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Topics<'a> {
    base: &'a str,
    device: &'a str,
}

/// Names that cannot be parts of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum TopicError {
    /// Beginning of every topic.
    Base(BadName),
    /// The device's name.
    Device(BadName),
}

impl fmt::Display for TopicError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, why) = match self {
            Self::Base(why) => ("the base topic ", why),
            Self::Device(why) => ("the device's name ", why),
        };
        f.write_str(what)?;
        f.write_str(why.as_str())
    }
}

impl core::error::Error for TopicError {}

impl<'a> Topics<'a> {
    /// The topics of `device` under `base`.
    ///
    /// # Errors
    /// [`TopicError`] when one of them cannot be part of a topic ([`crate::name`]).
    pub fn new(base: &'a str, device: &'a str) -> Result<Self, TopicError> {
        name::base(base).map_err(TopicError::Base)?;
        name::device(device).map_err(TopicError::Device)?;
        Ok(Self { base, device })
    }

    fn join(&self, parts: &[&str]) -> Topic {
        let mut topic = Topic::new();
        for part in parts {
            if !topic.is_empty() {
                let _ = topic.push('/');
            }
            // Two names of 64 bytes and a leaf fit by construction.
            let _ = topic.push_str(part);
        }
        topic
    }

    /// Commands to all devices.
    pub fn update_all(&self) -> Topic {
        self.join(&[self.base, "update"])
    }

    /// Commands to this device.
    pub fn update_one(&self) -> Topic {
        self.join(&[self.base, self.device, "update"])
    }

    /// The retained status report.
    pub fn status(&self) -> Topic {
        self.join(&[self.base, self.device, "status"])
    }

    /// `online` or, as the last will, `offline`.
    pub fn online(&self) -> Topic {
        self.join(&[self.base, self.device, "online"])
    }

    /// The plain lines a person watches.
    pub fn progress(&self) -> Topic {
        self.join(&[self.base, "progress"])
    }
}

/// The device a topic such as `{base}/{device}/status` belongs to; `leaf` is its last part.
pub fn device_of<'t>(base: &str, topic: &'t str, leaf: &str) -> Option<&'t str> {
    let rest = topic.strip_prefix(base)?.strip_prefix('/')?;
    let device = rest.strip_suffix(leaf)?.strip_suffix('/')?;
    (!device.is_empty() && !device.contains('/')).then_some(device)
}

/// The filter for every device's `leaf`, such as `status`.
pub fn all(base: &str, leaf: &str) -> Topic {
    Topics { base, device: "+" }.join(&[base, "+", leaf])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_the_documented_ones() {
        let topics = Topics::new(DEFAULT_BASE, "kitchen").unwrap();
        assert_eq!(topics.update_all(), "ESP32/ota/update");
        assert_eq!(topics.update_one(), "ESP32/ota/kitchen/update");
        assert_eq!(topics.progress(), "ESP32/ota/progress");
        assert_eq!(device_of(DEFAULT_BASE, &topics.status(), "status"), Some("kitchen"));
        assert_eq!(device_of(DEFAULT_BASE, "ESP32/ota/status", "status"), None);
        assert_eq!(all(DEFAULT_BASE, "status"), "ESP32/ota/+/status");
        for bad in ["", "a/b", "a+", "#", "a\n"] {
            assert!(matches!(Topics::new(DEFAULT_BASE, bad), Err(TopicError::Device(_))));
        }
    }
}
