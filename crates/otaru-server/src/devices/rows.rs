//! Rows of devices.

use otaru_api::{Device, Timestamp};
use otaru_rollout::DeviceId;
use rusqlite::{Connection, OptionalExtension as _, Row};
use serde_json::Value;

use crate::db::DbError;
use crate::releases::naming;

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

/// Returns the time of a device's last report.
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
