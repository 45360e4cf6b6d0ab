//! Devices: rows of lists, a device with all that is known of it, its history, the fleet in numbers.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use otaru_format::status::{self, Code, UpdateState};
use otaru_rollout::Standing;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::device_query::{DeviceQuery, strict};
use crate::name::Name;
use crate::timestamp::Timestamp;

/// A device as lists show it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Device {
    /// Name in MQTT topics.
    pub id: String,
    /// Name that people gave it, if not its id.
    #[serde(default)]
    pub label: Option<String>,
    /// Chip, such as `esp32c3`; empty before its first report, like all that a report tells.
    #[serde(default)]
    pub chip: String,
    /// Product, as it reports it; of older devices the project of the image they run.
    #[serde(default)]
    pub product: String,
    /// Version: of the release with this image, where there is one, and else as the device reports it.
    #[serde(default)]
    pub version: String,
    /// SHA-256 of the image, in hex.
    #[serde(default)]
    pub image: Option<String>,
    /// First eight digits of it, to tell apart images of one version.
    #[serde(default)]
    pub image_short: Option<String>,
    /// State: `idle`, `downloading`, `confirmed`, `rolled_back` …
    #[serde(default)]
    pub state: String,
    /// Code of its last failure.
    #[serde(default)]
    pub error_code: Option<String>,
    /// Number of the present attempt, from 1, or, of an image that did not reach the broker, the number of trials so far; 0 for neither.
    #[serde(default)]
    pub attempt: u8,
    /// Whether it can be reached now.
    #[serde(default)]
    pub reachable: bool,
    /// Time at which it became known.
    pub first_seen: Timestamp,
    /// Time of the last change: it came or went, or its state, firmware or error changed.
    #[serde(default)]
    pub last_seen: Option<Timestamp>,
    /// Tags.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// Id of the rollout that is updating it.
    #[serde(default)]
    pub active_rollout: Option<i64>,
    /// Time of its retirement.
    #[serde(default)]
    pub retired_at: Option<Timestamp>,
}

impl Device {
    /// Returns the number of the trial that comes next, where the new image did not reach the broker and will be tried again.
    pub fn next_trial(&self) -> Option<u8> {
        let unreachable = self.error_code.as_deref() == Some(Code::Unreachable.as_str());
        let code = unreachable.then_some(Code::Unreachable);
        status::next_trial(UpdateState::of_name(&self.state), code, self.attempt)
    }
}

/// A device with all that is known of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct DeviceDetails {
    /// The device as lists show it.
    #[serde(flatten)]
    pub device: Device,
    /// Last report, as it sent it.
    #[serde(default)]
    pub report: Option<Value>,
    /// Deployments, newest first, at most 50.
    #[serde(default)]
    pub deployments: Vec<DeploymentInShort>,
    /// CAs that it trusts over TLS, as it reported them, with what the server knows of them.
    #[serde(default)]
    pub trusts: Vec<TrustedCa>,
    /// Certificates that it logged in with and that are good still, newest first, at most 10.
    #[serde(default)]
    pub certificates: Vec<DeviceCertificate>,
    /// Boards that take the connection to the embedded broker from each other: several have this name.
    #[serde(default)]
    pub contested: Option<Contested>,
    /// Remarks for people on what was done to it, such as what is to be done beside at a broker that decides by itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remarks: Vec<String>,
}

/// A certificate that a device logged in with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct DeviceCertificate {
    /// Serial number, in hexadecimal without leading zeros.
    pub serial: String,
    /// Time at which it was first seen.
    pub first_seen: Timestamp,
    /// Last moment, where the device has logged in with it since the server started.
    #[serde(default)]
    pub ends_at: Option<Timestamp>,
}

impl DeviceCertificate {
    /// Returns the serial number and, where it is known, the day of the end.
    pub fn title(&self) -> String {
        titled(&self.serial, self.ends_at)
    }
}

/// Adds the day of an end to a name.
fn titled(name: &str, ends_at: Option<Timestamp>) -> String {
    match ends_at {
        Some(ends) => format!("{name} (ends {})", ends.utc().format("%Y-%m-%d")),
        None => name.to_owned(),
    }
}

/// A CA that a device trusts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct TrustedCa {
    /// First 16 hexadecimal digits of its certificate's SHA-256.
    pub id: String,
    /// Name, where the server knows it: of the chain of its own certificate, or of what it trusts its broker by.
    #[serde(default)]
    pub name: Option<String>,
    /// Last moment, where the server knows it.
    #[serde(default)]
    pub ends_at: Option<Timestamp>,
}

impl TrustedCa {
    /// Returns the id and, where they are known, the name before it and the day of the end.
    pub fn title(&self) -> String {
        let name = match &self.name {
            Some(name) => &format!("{name}, {}", self.id),
            None => &self.id,
        };
        titled(name, self.ends_at)
    }
}

/// A CA that is about to end, or has ended, and that devices trust and no other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct EndingCa {
    /// The CA.
    #[serde(flatten)]
    pub ca: TrustedCa,
    /// Number of devices that trust no other.
    pub devices: u64,
    /// Explanation, and what to do.
    pub detail: String,
}

/// A deployment of a device, in short.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct DeploymentInShort {
    /// Id of the rollout.
    pub rollout: i64,
    /// Name of the rollout.
    pub name: String,
    /// Standing: `ready`, `waiting`, `active`, `retrying`, or the outcome.
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub standing: Name<Standing>,
    /// Code of its failure.
    pub error_code: Option<String>,
    /// Time of the last change.
    pub updated_at: Timestamp,
}

/// A client id that more than one connection wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Contested {
    /// Number of times that another connection took over in that time.
    pub takeovers: usize,
    /// Length of the time that was looked at, in minutes.
    pub minutes: u64,
    /// Addresses that took it over.
    #[cfg_attr(feature = "schema", schema(value_type = Vec<String>))]
    pub addresses: BTreeSet<IpAddr>,
    /// Explanation, and what to do.
    pub detail: String,
}

/// An event in a device's history.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct DeviceEvent {
    /// Id; newer events have higher ones.
    pub id: i64,
    /// Time of the event.
    pub at: Timestamp,
    /// Kind: `report`, `online`, `offline`, `tags`, `label`, `retired`, `unretired` …
    pub kind: String,
    /// Details: fields that depend on the kind; of a report, what changed, and in `to` the version that it is about, if known.
    #[cfg_attr(feature = "schema", schema(value_type = Option<std::collections::BTreeMap<String, Value>>))]
    #[serde(default)]
    pub detail: Value,
    /// Steps of an attempt at an update, the oldest first, where there is more than one: the entry says the same as the last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<DeviceStep>,
}

/// A step of an attempt at an update.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct DeviceStep {
    /// Id; newer steps have higher ones.
    pub id: i64,
    /// Time of the event.
    pub at: Timestamp,
    /// Kind: `report`, `online` or `offline`.
    pub kind: String,
    /// Details: fields that depend on the kind.
    #[cfg_attr(feature = "schema", schema(value_type = Option<std::collections::BTreeMap<String, Value>>))]
    #[serde(default)]
    pub detail: Value,
}

/// Parts of an event's detail that people are told.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct EventDetail {
    /// Failure that a report told.
    pub error: Option<Failure>,
    /// Fleet key that the device came with.
    pub fleet_key: Option<String>,
    /// Address that it came from.
    pub address: Option<String>,
}

/// A failure as a device reported it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Failure {
    /// Code, such as `panic`.
    pub code: String,
    /// The device's words for it.
    pub detail: String,
}

impl EventDetail {
    /// Reads the detail of an event or a step; of one in another form there is nothing to tell.
    pub fn read(detail: &Value) -> Self {
        Self::deserialize(detail).unwrap_or_default()
    }
}

impl From<DeviceEvent> for DeviceStep {
    fn from(event: DeviceEvent) -> Self {
        Self { id: event.id, at: event.at, kind: event.kind, detail: event.detail }
    }
}

/// Numbers of devices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct FleetCounts {
    /// All devices, without retired ones.
    pub total: u64,
    /// Devices that can be reached.
    pub reachable: u64,
    /// Devices by product and version, the most first.
    pub versions: Vec<VersionCount>,
    /// Devices by state.
    pub states: BTreeMap<String, u64>,
    /// Devices by health: `well`, `updating`, `troubled`, `away`.
    #[serde(default)]
    pub health: BTreeMap<String, u64>,
}

/// The fleet in numbers.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Fleet {
    /// Numbers of devices.
    #[serde(flatten)]
    pub counts: FleetCounts,
    /// Number of devices, without retired ones, that the server takes.
    #[serde(default)]
    pub most: u64,
    /// Number of devices that there was no room for since the server started.
    #[serde(default)]
    pub refused: u64,
    /// CAs that end within 90 days, and that devices trust and no other.
    #[serde(default)]
    pub ending_cas: Vec<EndingCa>,
}

/// Number of devices that run a version, or one of several images that are called so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct VersionCount {
    /// Product.
    pub product: String,
    /// Version.
    pub version: String,
    /// SHA-256 of the image, in hex, where devices of one chip run several that are called so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Number of devices that run it.
    pub devices: u64,
}

impl VersionCount {
    /// Returns the version and, where others are called so, the first digits of the image.
    pub fn title(&self) -> String {
        match self.image.as_deref().and_then(|image| image.get(..8)) {
            Some(short) => format!("{} ({short})", self.version),
            None => self.version.clone(),
        }
    }
}

/// A device as it is added.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NewDevice {
    /// Name in MQTT topics, and user name there.
    #[cfg_attr(feature = "schema", schema(min_length = 1, max_length = 64))]
    pub id: String,
    /// Name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(max_length = 100))]
    pub label: Option<String>,
    /// Tags.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
}

/// A device that was just added.
#[derive(Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct AddedDevice {
    /// The device as lists show it.
    #[serde(flatten)]
    pub device: Device,
    /// Password at the broker; it is shown this once.
    pub password: String,
    /// Remarks for people: what is to be done beside at a broker that decides by itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remarks: Vec<String>,
}

/// A login of a device at the broker.
#[derive(Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct DeviceLogin {
    /// User name and MQTT client id.
    pub username: String,
    /// Password; shown only once.
    pub password: String,
    /// Remarks for people: what is to be done beside at a broker that decides by itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remarks: Vec<String>,
}

/// A device that wants a login, and the fleet key that gives it a right to one.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// Name in MQTT topics.
    #[cfg_attr(feature = "schema", schema(min_length = 1, max_length = 64))]
    pub device: String,
    /// A fleet key.
    pub fleet_key: String,
}

/// Orders for a device that reports.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Orders {
    /// An offer, as on the topic `{base}/{device}/update`; `null` when there is nothing to do.
    #[cfg_attr(feature = "schema", schema(value_type = Option<std::collections::BTreeMap<String, Value>>))]
    pub offer: Option<Value>,
}

/// Changes of a device.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields)]
pub struct ChangeDevice {
    /// Name for people; empty for the id.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(max_length = 100))]
    pub label: Option<String>,
    /// Tags to set, besides those it has.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// Names of tags to remove.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remove_tags: Vec<String>,
}

/// Tags for many devices.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct TagMany {
    /// Ids of the devices; or, instead, a query.
    #[serde(default)]
    pub devices: Vec<String>,
    /// Query for the devices; or, instead, `devices`.
    #[serde(default, with = "strict")]
    pub which: Option<DeviceQuery>,
    /// Tags to set.
    #[serde(default)]
    pub set: BTreeMap<String, String>,
    /// Names of tags to remove.
    #[serde(default)]
    pub remove: Vec<String>,
}

/// Number of devices that a request changed.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ChangedDevices {
    /// Number of devices.
    pub devices: usize,
}
