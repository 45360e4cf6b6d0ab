//! Target of a rollout: the devices it is for.

use std::collections::BTreeSet;

use otaru_format::digest::Digest;
use serde::{Deserialize, Serialize};

use crate::ids::{DeviceId, RolloutId};
use crate::percent::{Percent, Position};
use crate::tags::{TagExpression, Tags};
use crate::version::VersionRange;

/// The most devices an explicit list may have: it is part of the rollout, which every step reads. Tag more.
pub const MAX_LIST: usize = 1_000;

/// The devices a rollout is for: those that meet every condition given. With none given, all of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Target {
    /// Condition on their tags.
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>, example = "site=berlin and not canary"))]
    pub tags: Option<TagExpression>,
    /// The product they report; of older devices the project name of the image they run.
    pub product: Option<String>,
    /// Chips, such as `esp32c3`; empty for any.
    pub chips: BTreeSet<String>,
    /// The versions they run.
    pub versions: Option<VersionRange>,
    /// Ids of devices, at most 1000 (`MAX_LIST`).
    pub devices: Option<BTreeSet<DeviceId>>,
    /// Share of the devices in per cent, drawn with the rollout's salt.
    pub percent: Percent,
}

impl Default for Target {
    fn default() -> Self {
        Self {
            tags: None,
            product: None,
            chips: BTreeSet::new(),
            versions: None,
            devices: None,
            percent: Percent::ALL,
        }
    }
}

/// Device as the server knows it, as far as it matters here.
#[derive(Debug, Clone, Copy)]
pub struct Device<'a> {
    /// Id.
    pub id: &'a DeviceId,
    /// Tags.
    pub tags: &'a Tags,
    /// Chip, as the device reports it.
    pub chip: &'a str,
    /// The product it is.
    pub product: &'a str,
    /// The version of it.
    pub version: &'a str,
    /// The digest of it.
    pub image: Digest,
    /// Whether it can be reached now: neither offline nor asleep.
    pub reachable: bool,
    /// The rollout that [brought](crate::Occupancy::brought_by) it to this image; `None` when it has it from somewhere else.
    pub brought_by: Option<RolloutId>,
}

impl Target {
    /// Whether this device is meant by a rollout with this salt.
    pub fn matches(&self, device: &Device<'_>, salt: &str) -> bool {
        self.product.as_ref().is_none_or(|product| product == device.product)
            && (self.chips.is_empty() || self.chips.contains(device.chip))
            && self.devices.as_ref().is_none_or(|list| list.contains(device.id))
            && self.tags.as_ref().is_none_or(|tags| tags.matches(device.tags))
            && self.versions.as_ref().is_none_or(|range| range.contains(device.version))
            && Position::of(device.id.as_str(), salt, "target").is_within(self.percent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_condition_counts() {
        let id = DeviceId::from("lamp-1");
        let tags = Tags::from([("site".to_owned(), "berlin".to_owned())]);
        let device = Device {
            id: &id,
            tags: &tags,
            chip: "esp32c3",
            product: "lamp",
            version: "1.2.0",
            image: Digest::ZERO,
            reachable: true,
            brought_by: None,
        };
        let matches = |json: &str| serde_json::from_str::<Target>(json).unwrap().matches(&device, "s");
        assert!(matches("{}"));
        assert!(matches(
            r#"{"tags": "site=berlin", "product": "lamp", "chips": ["esp32", "esp32c3"], "versions": "<2.0.0",
                "devices": ["lamp-1", "lamp-2"], "percent": 100}"#
        ));
        for other in [
            r#"{"tags": "site=paris"}"#,
            r#"{"product": "clock"}"#,
            r#"{"chips": ["esp32"]}"#,
            r#"{"versions": ">=1.2.1"}"#,
            r#"{"devices": ["lamp-2"]}"#,
            r#"{"devices": []}"#,
            r#"{"percent": 0}"#,
        ] {
            assert!(!matches(other), "{other}");
        }
        assert!(serde_json::from_str::<Target>(r#"{"prodcut": "lamp"}"#).is_err());
    }
}
