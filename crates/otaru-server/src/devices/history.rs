//! What happened to a device.

use otaru_rollout::{DeviceId, Time};
use rusqlite::{Connection, params};
use serde::Serialize;
use serde_json::Value;

use crate::api::page::{Cursor, Page};
use crate::db::DbError;

/// How many events of a device are kept.
pub const KEPT: i64 = 1_000;

/// Something that happened to a device.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
#[schema(as = DeviceEvent)]
pub struct Happened {
    /// Newer ones have higher ids.
    pub id: i64,
    /// When, in milliseconds since 1970.
    pub at: i64,
    /// What: `report`, `online`, `offline`, `tags`, `label`, `retired`, `unretired` …
    pub kind: String,
    /// More about it; of a report, what changed.
    pub detail: Value,
}

/// Notes an event.
///
/// # Errors
/// Those of the database.
pub fn note(
    tx: &Connection,
    device: &DeviceId,
    kind: &str,
    detail: &Value,
    now: Time,
) -> Result<(), DbError> {
    tx.prepare_cached("INSERT INTO device_events (device, at, kind, detail) VALUES (?, ?, ?, ?)")?
        .execute(params![device.as_str(), now.0.cast_signed(), kind, detail.to_string()])?;
    // Not every time: counting back costs more than a few rows too many.
    if tx.last_insert_rowid() % 64 == 0 {
        prune(tx, device)?;
    }
    Ok(())
}

fn prune(tx: &Connection, device: &DeviceId) -> Result<(), DbError> {
    tx.prepare_cached(
        "DELETE FROM device_events WHERE device = ?1 AND id <=
           (SELECT id FROM device_events WHERE device = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)",
    )?
    .execute(params![device.as_str(), KEPT])?;
    Ok(())
}

/// The newest events, or those older than the cursor.
///
/// # Errors
/// Those of the database.
pub fn list(
    tx: &Connection,
    device: &DeviceId,
    before: Option<i64>,
    limit: u32,
) -> Result<Page<Happened>, DbError> {
    let mut rows = tx.prepare_cached(
        "SELECT id, at, kind, detail FROM device_events
         WHERE device = ?1 AND id < coalesce(?2, 9223372036854775807) ORDER BY id DESC LIMIT ?3",
    )?;
    let events = rows.query_map(params![device.as_str(), before, i64::from(limit) + 1], |row| {
        let detail: String = row.get(3)?;
        Ok(Happened {
            id: row.get(0)?,
            at: row.get(1)?,
            kind: row.get(2)?,
            detail: serde_json::from_str(&detail).unwrap_or_default(),
        })
    })?;
    Ok(Page::cut(events.collect::<Result<_, _>>()?, limit, |event| Cursor::of(&event.id)))
}
