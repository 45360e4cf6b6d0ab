//! Rows of devices.

use std::collections::BTreeMap;

use otaru_format::status::{self, Code, UpdateState};
use otaru_rollout::DeviceId;
use rusqlite::{Connection, OptionalExtension as _, Row};
use serde::Serialize;
use serde_json::Value;

use crate::db::DbError;
use crate::releases::naming;
use crate::timestamp::Timestamp;

/// A device as lists show it.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct Device {
    /// Its name in MQTT topics.
    pub id: String,
    /// What people call it, if not by its id.
    pub label: Option<String>,
    /// Its chip, such as `esp32c3`; empty before its first report, like all that a report tells.
    pub chip: String,
    /// The product it is, as it reports it; of older devices the project of the image they run.
    pub product: String,
    /// The version of it: of the release with this image, where there is one, and else as the device reports it.
    pub version: String,
    /// The SHA-256 of it, in hex.
    pub image: Option<String>,
    /// Its first eight digits, to tell apart what is called alike.
    pub image_short: Option<String>,
    /// What it is at: `idle`, `downloading`, `confirmed`, `rolled_back` …
    pub state: String,
    /// Why it last failed, as a code.
    pub error_code: Option<String>,
    /// The how manieth attempt it is at, or, of an image that did not reach the broker, how often it was tried; 0 for neither.
    pub attempt: u8,
    /// Whether it can be reached now.
    pub reachable: bool,
    /// When it was first heard of.
    pub first_seen: Timestamp,
    /// When something of it last changed.
    pub last_seen: Option<Timestamp>,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// The rollout that updates it just now.
    pub active_rollout: Option<i64>,
    /// When it was retired.
    pub retired_at: Option<Timestamp>,
}

impl Device {
    /// The trial that comes next, where its new image did not reach the broker and will be tried again.
    pub fn next_trial(&self) -> Option<u8> {
        let unreachable = self.error_code.as_deref() == Some(Code::Unreachable.as_str());
        let code = unreachable.then_some(Code::Unreachable);
        status::next_trial(UpdateState::of_name(&self.state), code, self.attempt)
    }
}

/// The columns of [`device`], of a table named `d`.
pub(super) const COLUMNS: &str = "d.id, d.label, d.chip, d.product, d.version, lower(hex(d.image)), d.state, d.error_code, \
     d.reachable, d.first_seen, d.last_seen, d.active, d.retired_at, \
     (SELECT json_group_object(t.name, t.value) FROM device_tags t WHERE t.device = d.id), \
     CASE WHEN json_valid(d.report) THEN coalesce(json_extract(d.report, '$.attempt'), 0) ELSE 0 END";

/// A row of [`COLUMNS`].
pub(super) fn device(row: &Row<'_>) -> rusqlite::Result<Device> {
    let tags: String = row.get(13)?;
    let image: String = row.get::<_, Option<String>>(5)?.unwrap_or_default();
    Ok(Device {
        id: row.get(0)?,
        label: row.get(1)?,
        chip: row.get(2)?,
        product: row.get(3)?,
        version: row.get(4)?,
        image_short: naming::short_of(&image).map(str::to_owned),
        image: (!image.is_empty()).then_some(image),
        state: row.get(6)?,
        error_code: row.get(7)?,
        attempt: row.get(14)?,
        reachable: row.get(8)?,
        first_seen: row.get(9)?,
        last_seen: row.get(10)?,
        active_rollout: row.get(11)?,
        retired_at: row.get(12)?,
        tags: serde_json::from_str(&tags).unwrap_or_default(),
    })
}

/// A device, whether retired or not.
pub fn get(tx: &Connection, id: &DeviceId) -> Result<Option<Device>, DbError> {
    let sql = format!("SELECT {COLUMNS} FROM devices d WHERE d.id = ?");
    Ok(tx.prepare_cached(&sql)?.query_row([id.as_str()], device).optional()?)
}

/// When a device last reported.
pub fn reported_at(tx: &Connection, id: &DeviceId) -> Result<Option<Timestamp>, DbError> {
    let sql = "SELECT reported_at FROM devices WHERE id = ?";
    Ok(tx.prepare_cached(sql)?.query_row([id.as_str()], |row| row.get(0)).optional()?.flatten())
}

/// A device's last report, as it sent it.
pub fn report(tx: &Connection, id: &DeviceId) -> Result<Option<Value>, DbError> {
    let sql = "SELECT report FROM devices WHERE id = ?";
    let text: Option<String> =
        tx.prepare_cached(sql)?.query_row([id.as_str()], |row| row.get(0)).optional()?.flatten();
    Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
}
