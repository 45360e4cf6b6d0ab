//! Fleet keys: secrets with which devices may come that are not known yet.

use otaru_api::{FleetKey, NewFleetKey};
use otaru_format::digest::Digest;
use otaru_rollout::Time;

use crate::db::{Connection, DbError, OptionalExtension as _, Row, params};
use crate::problem::Problem;
use crate::secret;

/// Prefix of fleet keys.
const KIND: &str = "fleet";

/// Tells whether a text has the form of a fleet key.
pub fn is_fleet_key(text: &str) -> bool {
    secret::parse(KIND, text).is_some()
}

/// Makes a fleet key; gives back the text that is shown once.
///
/// # Errors
/// When its name or tags cannot be.
pub fn create(tx: &Connection, new: NewFleetKey, by: &str, now: Time) -> Result<(FleetKey, String), Problem> {
    let name = super::name::plain_name(&new.name)?;
    crate::devices::tags::check(&new.tags)?;
    let most = new.max_devices.map(i64::try_from).transpose();
    let most = most.ok().filter(|most| *most != Some(0));
    let most = most.ok_or_else(|| Problem::invalid("`max_devices` is a number of devices, at least 1"))?;
    let made = secret::make(KIND).map_err(|error| Problem::internal(&error))?;
    let tags = serde_json::to_string(&new.tags).unwrap_or_default();
    tx.execute(
        "INSERT INTO fleet_keys (id, name, hash, tags, created_at, created_by, max_devices) VALUES (?, ?, ?, ?, ?, ?, ?)",
        params![made.id, name, made.hash.0, tags, now.0.cast_signed(), by, most],
    )?;
    let key = FleetKey {
        id: made.id,
        name,
        tags: new.tags,
        devices: 0,
        max_devices: new.max_devices,
        created_at: now.into(),
        created_by: by.to_owned(),
        revoked_at: None,
    };
    Ok((key, made.text))
}

const COLUMNS: &str = "id, name, tags, created_at, created_by, revoked_at, devices, max_devices";

fn key(row: &Row) -> Result<FleetKey, DbError> {
    let tags: String = row.get(2)?;
    Ok(FleetKey {
        id: row.get(0)?,
        name: row.get(1)?,
        tags: serde_json::from_str(&tags).unwrap_or_default(),
        created_at: row.get(3)?,
        created_by: row.get(4)?,
        revoked_at: row.get(5)?,
        devices: row.get::<i64>(6)?.unsigned_abs(),
        max_devices: row.get::<Option<i64>>(7)?.map(i64::unsigned_abs),
    })
}

/// All fleet keys, newest first.
pub fn list(tx: &Connection) -> Result<Vec<FleetKey>, DbError> {
    let sql = format!("SELECT {COLUMNS} FROM fleet_keys ORDER BY created_at DESC, id");
    let rows = tx.prepare(&sql);
    rows.query_map((), key)?.collect::<Result<_, _>>()
}

/// Ends a fleet key. Says whether there was one that was good.
pub fn revoke(tx: &Connection, id: &str, now: Time) -> Result<bool, DbError> {
    let sql = "UPDATE fleet_keys SET revoked_at = ? WHERE id = ? AND revoked_at IS NULL";
    Ok(tx.execute(sql, params![now.0.cast_signed(), id])? > 0)
}

/// Returns the devices that log in with a fleet key.
pub fn devices(tx: &Connection, id: &str) -> Result<Vec<String>, DbError> {
    let rows = tx.prepare("SELECT id FROM devices WHERE fleet_key = ?");
    rows.query_map([id], |row| row.get(0))?.collect::<Result<_, _>>()
}

/// Whether a text has a fleet key's form.
pub fn looks_like(text: &str) -> bool {
    secret::parse(KIND, text).is_some()
}

/// The key with this secret, if it is good.
pub fn find(tx: &Connection, text: &str) -> Result<Option<FleetKey>, DbError> {
    let Some(parts) = secret::parse(KIND, text) else { return Ok(None) };
    let sql = format!("SELECT {COLUMNS}, hash FROM fleet_keys WHERE id = ? AND revoked_at IS NULL");
    let found =
        tx.prepare(&sql).query_row([parts.id], |row| Ok((key(row)?, Digest(row.get(8)?)))).optional()?;
    Ok(found.filter(|(_, hash)| *hash == parts.hash()).map(|(key, _)| key))
}
