//! How devices log in: with a password of their own, or with the fleet key that they came with.

use otaru_format::digest::Digest;
use otaru_rollout::{DeviceId, Time};
use rusqlite::{Connection, OptionalExtension as _, params};

use super::{fleet_keys, secret};
use crate::api::problem::Problem;
use crate::app::Shared;
use crate::db::DbError;
use crate::devices::{edit, rows, tags};

/// Gives a device a new password, in place of any it had; gives back the text that is shown once.
///
/// # Errors
/// When there is no such device, and those of the database.
pub fn set_password(tx: &Connection, device: &DeviceId) -> Result<String, Problem> {
    edit::exists(tx, device)?;
    let password = secret::password().map_err(|error| Problem::internal(&error))?;
    let hash = secret::hash(&password).0;
    let sql = "UPDATE devices SET secret = ?, fleet_key = NULL, revision = revision + 1
               WHERE id = ? AND retired_at IS NULL";
    match tx.execute(sql, params![hash, device.as_str()])? {
        0 => Err(Problem::not_found(format_args!("device {device}"))),
        _ => Ok(password),
    }
}

/// Whether a device with this id may come in with this password. One that is new is registered, if the password is a fleet key;
/// with a password of its own, its user name is its id.
///
/// # Errors
/// Those of the database.
pub async fn verify(
    app: &Shared,
    device: DeviceId,
    password: String,
    username: Option<&str>,
) -> Result<bool, DbError> {
    if !fleet_keys::looks_like(&password) && username != Some(device.as_str()) {
        return Ok(false);
    }
    // Most logins are of devices that are known: those need no write.
    let (id, text) = (device.clone(), password.clone());
    match app.db.read(move |tx| check(tx, &id, &text)).await? {
        Verdict::Good => Ok(true),
        Verdict::Bad => Ok(false),
        Verdict::New => {
            let now = app.clock.now();
            app.db.write(move |tx| register(tx, &device, &password, now)).await
        }
    }
}

enum Verdict {
    Good,
    Bad,
    /// A good fleet key, and a device that did not come with it yet.
    New,
}

fn check(tx: &Connection, device: &DeviceId, password: &str) -> Result<Verdict, DbError> {
    type Found = (Option<[u8; 32]>, Option<String>, bool);
    let sql = "SELECT secret, fleet_key, retired_at IS NOT NULL FROM devices WHERE id = ?";
    let known: Option<Found> = tx
        .prepare_cached(sql)?
        .query_row([device.as_str()], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?;
    match known {
        Some((_, _, true)) => Ok(Verdict::Bad),
        // A device with a password of its own is that device only: no fleet key opens it.
        Some((Some(hash), _, false)) => match Digest(hash) == secret::hash(password) {
            true => Ok(Verdict::Good),
            false => Ok(Verdict::Bad),
        },
        Some((None, came_with, false)) => match (fleet_keys::find(tx, password)?, came_with) {
            (Some(key), Some(id)) if key.id == id => Ok(Verdict::Good),
            // It was known without a login until now.
            (Some(_), None) => Ok(Verdict::New),
            _ => Ok(Verdict::Bad),
        },
        None => Ok(fleet_keys::find(tx, password)?.map_or(Verdict::Bad, |_| Verdict::New)),
    }
}

fn register(tx: &Connection, device: &DeviceId, password: &str, now: Time) -> Result<bool, DbError> {
    // Between the look and the write somebody else may have been faster.
    if !matches!(check(tx, device, password)?, Verdict::New) {
        return Ok(matches!(check(tx, device, password)?, Verdict::Good));
    }
    let Some(key) = fleet_keys::find(tx, password)? else { return Ok(false) };
    rows::register(tx, device, now)?;
    let sql = "UPDATE devices SET fleet_key = ?, revision = revision + 1 WHERE id = ?";
    tx.execute(sql, params![key.id, device.as_str()])?;
    tags::add(tx, device, &key.tags)?;
    super::audit::note_server(tx, "device.claim", &format!("device/{device}"), now)?;
    Ok(true)
}

/// Gives a device that comes with a fleet key a password of its own.
///
/// # Errors
/// When the fleet key is not good, or the device has a password already.
pub fn claim(tx: &Connection, device: &DeviceId, fleet_key: &str, now: Time) -> Result<String, Problem> {
    let good = match check(tx, device, fleet_key)? {
        // A password is hex and a fleet key is not, so `Good` is by fleet key here.
        Verdict::Good => fleet_keys::find(tx, fleet_key)?.is_some(),
        Verdict::New => register(tx, device, fleet_key, now)?,
        Verdict::Bad => false,
    };
    if !good {
        return Err(Problem::unauthorized());
    }
    set_password(tx, device)
}
