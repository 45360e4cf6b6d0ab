//! The audit log: who did what to which thing.

use std::net::IpAddr;

use otaru_api::{AuditEntry, Cursor, FleetKey, Page};
use otaru_rollout::Time;
use serde_json::{Value, json};

use crate::caller::Caller;
use crate::db::{Connection, DbError, params};

/// Notes what a caller does, in the transaction that does it.
pub fn note(
    tx: &Connection,
    caller: &Caller,
    action: &str,
    object: &str,
    detail: &Value,
    now: Time,
) -> Result<(), DbError> {
    note_as(tx, &caller.name, action, object, detail, now)
}

/// Notes what the server does by itself.
pub fn note_server(
    tx: &Connection,
    action: &str,
    object: &str,
    detail: &Value,
    now: Time,
) -> Result<(), DbError> {
    note_as(tx, "server", action, object, detail, now)
}

/// Notes what somebody did with a fleet key, and from where.
pub fn note_key(
    tx: &Connection,
    key: &FleetKey,
    from: IpAddr,
    action: &str,
    object: &str,
    now: Time,
) -> Result<(), DbError> {
    let detail = json!({"fleet_key": key.id, "address": from});
    note_as(tx, &format!("fleet key {}", key.name), action, object, &detail, now)
}

/// Notes what somebody of this name does.
pub(super) fn note_as(
    tx: &Connection,
    actor: &str,
    action: &str,
    object: &str,
    detail: &Value,
    now: Time,
) -> Result<(), DbError> {
    tx.prepare("INSERT INTO audit (at, actor, action, object, detail) VALUES (?, ?, ?, ?, ?)")
        .execute(params![now.0.cast_signed(), actor, action, object, detail.to_string()])?;
    Ok(())
}

/// Filter of the log.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only what this token's owner did.
    pub actor: Option<String>,
    /// Only actions that begin so.
    pub action: Option<String>,
    /// Only what was done to this.
    pub object: Option<String>,
}

/// The newest entries, or those older than the cursor.
pub fn list(
    tx: &Connection,
    filter: &Filter,
    before: Option<i64>,
    limit: u32,
) -> Result<Page<AuditEntry>, DbError> {
    let rows = tx.prepare(
        "SELECT id, at, actor, action, object, detail FROM audit
         WHERE id < coalesce(?1, 9223372036854775807) AND (CAST(?2 AS TEXT) IS NULL OR actor = ?2)
           AND (CAST(?3 AS TEXT) IS NULL OR substr(action, 1, length(?3)) = ?3) AND (CAST(?4 AS TEXT) IS NULL OR object = ?4)
         ORDER BY id DESC LIMIT ?5",
    );
    let entries = rows.query_map(
        params![before, filter.actor, filter.action, filter.object, i64::from(limit) + 1],
        |row| {
            let detail: String = row.get(5)?;
            Ok(AuditEntry {
                id: row.get(0)?,
                at: row.get(1)?,
                actor: row.get(2)?,
                action: row.get(3)?,
                object: row.get(4)?,
                detail: serde_json::from_str(&detail).unwrap_or_default(),
            })
        },
    )?;
    Ok(Page::cut(entries.collect::<Result<_, _>>()?, limit, |entry| Cursor::of(&entry.id)))
}
