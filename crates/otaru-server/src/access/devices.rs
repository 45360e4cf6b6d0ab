//! Login of devices: with a password of their own, or with the fleet key that they registered with.

use std::net::IpAddr;

use otaru_api::{FleetKey, Timestamp};
use otaru_format::digest::Digest;
use otaru_rollout::{DeviceId, Span, Time};
use rusqlite::{Connection, OptionalExtension as _, params};
use serde_json::json;

use super::{audit, fleet_keys, serials};
use crate::app::Shared;
use crate::caller::Caller;
use crate::db::DbError;
use crate::devices::bounds::{self, Bounds, Entry, NoRoom};
use crate::devices::{edit, history, tags};
use crate::mqtt::access::FleetKeyUse;
use crate::problem::Problem;
use crate::secret;

/// Gives a device a new password, in place of any it had; gives back the text that is shown once.
///
/// # Errors
/// When there is no such device.
pub fn set_password(tx: &Connection, device: &DeviceId) -> Result<String, Problem> {
    edit::exists(tx, device)?;
    let password = secret::password().map_err(|error| Problem::internal(&error))?;
    serials::end(tx, device, serials::Ended::Replaced)?;
    let hash = secret::hash(&password).0;
    let sql = "UPDATE devices SET secret = ?, fleet_key = NULL, revision = revision + 1
               WHERE id = ? AND retired_at IS NULL";
    match tx.execute(sql, params![hash, device.as_str()])? {
        0 => Err(Problem::not_found(format_args!("device {device}"))),
        _ => Ok(password),
    }
}

/// A login that is good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceLogin {
    /// The fleet key; `None` with a password of its own.
    pub fleet_key: Option<FleetKeyUse>,
}

/// Refusal of a device's login.
#[derive(Debug)]
pub enum Refused {
    /// The password is not good for this device.
    BadLogin,
    /// The password is good, and there is no room for one more device.
    NoRoom(NoRoom),
    /// The database could not be asked.
    Unknown(DbError),
}

impl From<DbError> for Refused {
    fn from(error: DbError) -> Self {
        Self::Unknown(error)
    }
}

impl From<NoRoom> for Refused {
    fn from(why: NoRoom) -> Self {
        Self::NoRoom(why)
    }
}

/// Checks the password of a device with this id. One that is new is registered, if the password is a fleet key; with a password of
/// its own, its user name is its id. The log is told when there is no room.
///
/// # Errors
/// When the login is not good, or the device would be one too many.
pub async fn verify(
    app: &Shared,
    device: DeviceId,
    password: String,
    username: Option<&str>,
    from: IpAddr,
) -> Result<DeviceLogin, Refused> {
    if !fleet_keys::looks_like(&password) && username != Some(device.as_str()) {
        return Err(Refused::BadLogin);
    }
    // Most logins are of devices that are known: those need no write.
    let (id, text) = (device.clone(), password.clone());
    match app.db.read(move |tx| check(tx, &id, &text)).await? {
        Verdict::Good(login) => Ok(login),
        Verdict::Bad => Err(Refused::BadLogin),
        Verdict::New(key) => {
            let registered = register_new(app, &device, &key, password, from).await;
            if let Err(Refused::NoRoom(why)) = &registered {
                app.registry.note(&device, why);
            }
            registered
        }
    }
}

/// Registers a device that comes with a good fleet key. Only one that is registered counts for the key's hour.
async fn register_new(
    app: &Shared,
    device: &DeviceId,
    key: &FleetKey,
    password: String,
    from: IpAddr,
) -> Result<DeviceLogin, Refused> {
    let counted = app.registry.count(key, app.clock.now())?;
    let (now, bounds, id) = (app.clock.now(), app.config.device_limits, device.clone());
    let (login, is_new) = app.db.write(move |tx| register(tx, &id, &password, from, bounds, now)).await??;
    if is_new {
        counted.keep();
    }
    login.ok_or(Refused::BadLogin)
}

enum Verdict {
    Good(DeviceLogin),
    Bad,
    /// A good fleet key, and a device that did not come with it yet.
    New(FleetKey),
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
            true => Ok(Verdict::Good(DeviceLogin { fleet_key: None })),
            false => Ok(Verdict::Bad),
        },
        Some((None, came_with, false)) => match (fleet_keys::find(tx, password)?, came_with) {
            (Some(key), Some(id)) if key.id == id => {
                Ok(Verdict::Good(DeviceLogin { fleet_key: Some(used(key)) }))
            }
            // It was known without a login until now.
            (Some(key), None) => Ok(Verdict::New(key)),
            _ => Ok(Verdict::Bad),
        },
        None => Ok(fleet_keys::find(tx, password)?.map_or(Verdict::Bad, Verdict::New)),
    }
}

/// Returns the login, if it is good, and whether the device was registered only now.
fn register(
    tx: &Connection,
    device: &DeviceId,
    password: &str,
    from: IpAddr,
    bounds: Bounds,
    now: Time,
) -> Result<Result<(Option<DeviceLogin>, bool), NoRoom>, DbError> {
    // Between the look and the write somebody else may have been faster.
    let key = match check(tx, device, password)? {
        Verdict::Good(login) => return Ok(Ok((Some(login), false))),
        Verdict::Bad => return Ok(Ok((None, false))),
        Verdict::New(key) => key,
    };
    if let Err(why) = came(tx, device, &key, from, bounds, now)? {
        return Ok(Err(why));
    }
    note(tx, device, &key, from, "device.register", now)?;
    Ok(Ok((Some(DeviceLogin { fleet_key: Some(used(FleetKey { devices: key.devices + 1, ..key })) }), true)))
}

fn used(key: FleetKey) -> FleetKeyUse {
    FleetKeyUse { id: key.id, devices: key.devices }
}

/// A device came with this fleet key for the first time. Each counts for the key, however often it comes.
fn came(
    tx: &Connection,
    device: &DeviceId,
    key: &FleetKey,
    from: IpAddr,
    bounds: Bounds,
    now: Time,
) -> Result<Result<(), NoRoom>, DbError> {
    if key.devices >= key.max_devices.unwrap_or(bounds.per_fleet_key) {
        return Ok(Err(NoRoom::FleetKey { name: key.name.clone(), devices: key.devices }));
    }
    if bounds::register(tx, device, bounds.devices, now)? == Entry::NoRoom {
        return Ok(Err(NoRoom::Registry(bounds.devices)));
    }
    tx.execute("UPDATE fleet_keys SET devices = devices + 1 WHERE id = ?", [&key.id])?;
    let sql = "UPDATE devices SET fleet_key = ?, revision = revision + 1 WHERE id = ?";
    tx.execute(sql, params![key.id, device.as_str()])?;
    tags::add(tx, device, &key.tags)?;
    history::note(tx, device, "registered", &json!({"fleet_key": key.name, "address": from}), now)?;
    Ok(Ok(()))
}

fn note(
    tx: &Connection,
    device: &DeviceId,
    key: &FleetKey,
    from: IpAddr,
    action: &str,
    now: Time,
) -> Result<(), DbError> {
    audit::note_key(tx, key, from, action, &format!("device/{device}"), now)
}

/// Gives a device a password of its own for a fleet key, where nobody knows the device yet, or an admin [allows](allow_claim) it.
///
/// Whoever has a fleet key knows no more than that; so with it alone, nobody takes the place of a device that is there.
///
/// # Errors
/// When the fleet key is not good, the device is known, or there is no room for it.
pub fn claim(
    tx: &Connection,
    device: &DeviceId,
    fleet_key: &str,
    from: IpAddr,
    bounds: Bounds,
    now: Time,
) -> Result<String, Problem> {
    let key = fleet_keys::find(tx, fleet_key)?.ok_or_else(Problem::unauthorized)?;
    let sql = "SELECT retired_at IS NOT NULL, claim_until FROM devices WHERE id = ?";
    let known: Option<(bool, Option<i64>)> = tx
        .prepare_cached(sql)?
        .query_row([device.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    match known {
        None => came(tx, device, &key, from, bounds, now)??,
        Some((false, Some(until))) if is_open(until, now) => {}
        Some((true, _)) => return Err(edit::retired(device)),
        Some((false, _)) => return Err(is_known(device)),
    }
    tx.execute("UPDATE devices SET claim_until = NULL WHERE id = ?", [device.as_str()])?;
    history::note(tx, device, "claimed", &json!({"fleet_key": key.name, "address": from}), now)?;
    note(tx, device, &key, from, "device.claim", now)?;
    set_password(tx, device)
}

fn is_known(device: &DeviceId) -> Problem {
    Problem::conflict(format!(
        "the device {device} is known, and a fleet key does not take its place; an admin can allow it for an hour: \
         `otaru devices allow-claim {device}`"
    ))
}

/// Time for which an admin allows a claim of a known device.
const ALLOWED: Span = Span::hours(1);

/// Also where the clock was set back: longer than it lasts it is never open.
fn is_open(until: i64, now: Time) -> bool {
    let now = now.0.cast_signed();
    now < until && until - now <= ALLOWED.0.cast_signed()
}

/// Lets a device that is known be claimed once with a fleet key, within the next hour.
///
/// # Errors
/// When there is no such device.
pub fn allow_claim(tx: &Connection, caller: &Caller, device: &DeviceId, now: Time) -> Result<(), Problem> {
    let until = Timestamp::from(now + ALLOWED);
    let sql = "UPDATE devices SET claim_until = ? WHERE id = ? AND retired_at IS NULL";
    if tx.execute(sql, params![until, device.as_str()])? == 0 {
        return Err(Problem::not_found(format_args!("device {device}")));
    }
    history::note(tx, device, "claim_allowed", &json!({"by": caller.name}), now)?;
    audit::note(
        tx,
        caller,
        "device.allow_claim",
        &format!("device/{device}"),
        &json!({"until": until}),
        now,
    )?;
    Ok(())
}
