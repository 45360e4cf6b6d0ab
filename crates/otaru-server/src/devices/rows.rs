//! Rows of devices.

use otaru_api::{Device, Timestamp};
use otaru_format::digest::Digest;
use otaru_rollout::DeviceId;
use serde_json::Value;

use super::tags;
use crate::db::{Connection, DbError, Dialect, OptionalExtension as _, Row};
use crate::releases::naming;

/// Returns the columns of [`device`], of a table named `d`.
pub(super) fn columns(dialect: Dialect) -> String {
    format!(
        "d.id, d.label, d.chip, d.product, d.version, d.image, d.state, d.error_code, d.reachable, d.first_seen, d.last_seen, \
         d.active, d.retired_at, d.attempt, {}",
        tags::object(dialect)
    )
}

/// Reads a row of these [`columns`].
pub(super) fn device(row: &Row) -> Result<Device, DbError> {
    let image = row.get::<Option<[u8; 32]>>(5)?.map(|image| Digest(image).to_string());
    Ok(Device {
        id: row.get(0)?,
        label: row.get(1)?,
        chip: row.get(2)?,
        product: row.get(3)?,
        version: row.get(4)?,
        image_short: image.as_deref().and_then(naming::short_of).map(str::to_owned),
        image,
        state: row.get(6)?,
        error_code: row.get(7)?,
        attempt: row.get(13)?,
        reachable: row.get(8)?,
        first_seen: row.get(9)?,
        last_seen: row.get(10)?,
        active_rollout: row.get(11)?,
        retired_at: row.get(12)?,
        tags: serde_json::from_str(&row.get::<String>(14)?).unwrap_or_default(),
    })
}

/// A device, whether retired or not.
pub fn get(tx: &Connection, id: &DeviceId) -> Result<Option<Device>, DbError> {
    let sql = format!("SELECT {} FROM devices d WHERE d.id = ?", columns(tx.dialect()));
    tx.prepare(&sql).query_row([id.as_str()], device).optional()
}

/// Returns the time of a device's last report.
pub fn reported_at(tx: &Connection, id: &DeviceId) -> Result<Option<Timestamp>, DbError> {
    let sql = "SELECT reported_at FROM devices WHERE id = ?";
    Ok(tx.prepare(sql).query_row([id.as_str()], |row| row.get(0)).optional()?.flatten())
}

/// A device's last report, as it sent it.
pub fn report(tx: &Connection, id: &DeviceId) -> Result<Option<Value>, DbError> {
    let sql = "SELECT report FROM devices WHERE id = ?";
    let text: Option<String> =
        tx.prepare(sql).query_row([id.as_str()], |row| row.get(0)).optional()?.flatten();
    Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
}
