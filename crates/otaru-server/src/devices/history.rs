//! History of a device.

use otaru_api::{Cursor, DeviceEvent, Page};
use otaru_format::digest::Digest;
use otaru_rollout::{DeviceId, Time};
use serde_json::Value;

use super::{attempts, event};
use crate::db::{Connection, DbError, OptionalExtension as _, params};

/// Number of events that are kept of a device.
pub const KEPT: i64 = 1_000;
/// Number of events that are read for an entry: an update has about eight.
const STEPS: i64 = 8;

/// Notes an event.
pub fn note(
    tx: &Connection,
    device: &DeviceId,
    kind: &str,
    detail: &Value,
    now: Time,
) -> Result<(), DbError> {
    tx.prepare("INSERT INTO device_events (device, at, kind, detail) VALUES (?, ?, ?, ?)")
        .execute(params![device.as_str(), now.0.cast_signed(), kind, detail.to_string()])?;
    // Not every time: counting back costs more than a few rows too many.
    // By chance, so that no order in which devices report leaves one out.
    if rand::random_ratio(1, 64) {
        prune(tx, device)?;
    }
    Ok(())
}

fn prune(tx: &Connection, device: &DeviceId) -> Result<(), DbError> {
    tx.prepare(
        "DELETE FROM device_events WHERE device = ?1 AND id <=
           (SELECT id FROM device_events WHERE device = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)",
    )
    .execute(params![device.as_str(), KEPT])?;
    Ok(())
}

/// Version of an image that a device once reported, if that is still remembered.
pub fn version_of(tx: &Connection, device: &DeviceId, image: Digest) -> Result<Option<String>, DbError> {
    let sql = "SELECT json_extract(detail, '$.version') FROM device_events
               WHERE device = ? AND kind = 'report' AND json_extract(detail, '$.image') = ? ORDER BY id DESC LIMIT 1";
    let found = tx.prepare(sql).query_row([device.as_str(), &image.to_string()], |row| row.get(0));
    Ok(found.optional()?.flatten())
}

/// Returns the newest entries, or those older than the cursor. Steps of one attempt at an update are one entry.
pub fn list(
    tx: &Connection,
    device: &DeviceId,
    before: Option<i64>,
    limit: u32,
) -> Result<Page<DeviceEvent>, DbError> {
    let most = i64::from(limit) * STEPS + STEPS * 8;
    let events = events(tx, device, before, most)?;
    let is_cut = i64::try_from(events.len()).is_ok_and(|count| count == most);
    let mut entries = attempts::group(events);
    if is_cut {
        // The oldest attempt may have begun before what was read.
        let whole = entries.iter().rposition(|entry| entry.kind == "report").filter(|whole| *whole > 0);
        entries.truncate(whole.unwrap_or(entries.len()));
    }
    let wanted = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = is_cut || entries.len() > wanted;
    let rest = entries.split_off(wanted.min(entries.len()));
    let oldest = entries.iter().map(event::first).min();
    // What happened during an attempt stands on the page of the attempt: the next one begins before it.
    entries.extend(rest.into_iter().take_while(|entry| oldest.is_some_and(|oldest| entry.id > oldest)));
    let next = oldest.filter(|_| more).map(|id| Cursor::of(&id));
    Ok(Page { items: entries, next, total: None })
}

fn events(
    tx: &Connection,
    device: &DeviceId,
    before: Option<i64>,
    limit: i64,
) -> Result<Vec<DeviceEvent>, DbError> {
    let rows = tx.prepare(
        "SELECT id, at, kind, detail FROM device_events
         WHERE device = ?1 AND id < coalesce(?2, 9223372036854775807) ORDER BY id DESC LIMIT ?3",
    );
    let events = rows.query_map(params![device.as_str(), before, limit], |row| {
        let detail: String = row.get(3)?;
        Ok(DeviceEvent {
            id: row.get(0)?,
            at: row.get(1)?,
            kind: row.get(2)?,
            detail: serde_json::from_str(&detail).unwrap_or_default(),
            steps: Vec::new(),
        })
    })?;
    let mut events: Vec<DeviceEvent> = events.collect::<Result<_, _>>()?;
    for event in events.iter_mut().filter(|event| event.kind == "report") {
        attempts::name_images(tx, &mut event.detail)?;
    }
    Ok(events)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::Db;

    #[tokio::test]
    async fn a_devices_history_has_a_bound() {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(&dir.path().join("otaru.db")).unwrap();
        let kept = db.write(|tx| {
            // One that always has its turn after the other.
            for number in 0..6_000 {
                for device in ["a", "b"] {
                    note(tx, &DeviceId::from(device), "online", &Value::Null, Time(number))?;
                }
            }
            let sql = "SELECT count(*) FROM device_events WHERE device = ?";
            let count = |device: &str| tx.query_row(sql, [device], |row| row.get::<i64>(0));
            Ok::<_, DbError>([count("a")?, count("b")?])
        });
        for count in kept.await.unwrap() {
            // By chance, a few more; that none of 2,000 notes prunes happens to nobody.
            assert!((KEPT..KEPT + 2_000).contains(&count), "{count}");
        }
    }
}
