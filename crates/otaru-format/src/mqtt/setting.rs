//! Version of MQTT that is to be spoken with a broker, as people write it, and that which a connection speaks.

use core::fmt;
use core::str::FromStr;

/// Version of MQTT to speak with a broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum MqttVersion {
    /// MQTT 5, and 3.1.1 where the broker says that it speaks nothing newer.
    #[default]
    Auto,
    /// MQTT 5 only.
    V5,
    /// MQTT 3.1.1 only.
    V311,
}

impl MqttVersion {
    /// Names in files and on command lines.
    pub const NAMES: [&str; 3] = ["auto", "5", "3.1.1"];

    /// Name in files and on command lines.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::V5 => "5",
            Self::V311 => "3.1.1",
        }
    }

    /// Version number in a CONNECT, which also stands for it on flash; 0 for none in particular.
    pub const fn number(self) -> u8 {
        match self {
            Self::Auto => 0,
            Self::V5 => 5,
            Self::V311 => 4,
        }
    }
}

impl fmt::Display for MqttVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Version of MQTT that a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Version {
    /// MQTT 3.1.1.
    V311,
    /// MQTT 5.
    V5,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V311 => MqttVersion::V311.as_str(),
            Self::V5 => MqttVersion::V5.as_str(),
        })
    }
}

/// The text names no version that can be spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct BadMqttVersion;

impl fmt::Display for BadMqttVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the MQTT version is auto, 5 or 3.1.1")
    }
}

impl core::error::Error for BadMqttVersion {}

impl FromStr for MqttVersion {
    type Err = BadMqttVersion;

    fn from_str(text: &str) -> Result<Self, BadMqttVersion> {
        match text {
            "auto" => Ok(Self::Auto),
            "5" => Ok(Self::V5),
            "3.1.1" => Ok(Self::V311),
            _ => Err(BadMqttVersion),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back() {
        let all = [MqttVersion::Auto, MqttVersion::V5, MqttVersion::V311];
        for (version, name) in all.into_iter().zip(MqttVersion::NAMES) {
            assert_eq!((version.as_str(), name.parse()), (name, Ok(version)));
        }
        for text in ["", "5.0", "4", "3.1", "Auto", " 5"] {
            assert_eq!(text.parse::<MqttVersion>(), Err(BadMqttVersion), "{text}");
        }
    }
}
