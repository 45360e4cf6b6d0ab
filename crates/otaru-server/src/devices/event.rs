//! Events of a device, as its history shows them.

use serde::Serialize;
use serde_json::Value;

use crate::timestamp::Timestamp;

/// Something that happened to a device.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
#[schema(as = DeviceEvent)]
pub struct DeviceEvent {
    /// Newer ones have higher ids.
    pub id: i64,
    /// When.
    pub at: Timestamp,
    /// What: `report`, `online`, `offline`, `tags`, `label`, `retired`, `unretired` …
    pub kind: String,
    /// More about it; of a report, what changed, and in `to` the version that it is about, where that is known.
    pub detail: Value,
    /// The steps of an attempt at an update, the oldest first, where there is more than one: the entry says the same as the last.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Step>,
}

/// A step of an attempt at an update.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
#[schema(as = DeviceStep)]
pub struct Step {
    /// Newer ones have higher ids.
    pub id: i64,
    /// When.
    pub at: Timestamp,
    /// What: `report`, `online` or `offline`.
    pub kind: String,
    /// More about it.
    pub detail: Value,
}

impl From<DeviceEvent> for Step {
    fn from(event: DeviceEvent) -> Self {
        Self { id: event.id, at: event.at, kind: event.kind, detail: event.detail }
    }
}

impl DeviceEvent {
    /// The oldest event in it.
    pub(super) fn first(&self) -> i64 {
        self.steps.first().map_or(self.id, |step| step.id)
    }
}
