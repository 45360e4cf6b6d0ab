//! Login of devices: with a password of their own, or with the fleet key that they registered with.

use std::net::IpAddr;

use otaru_api::{FleetKey, Timestamp};
use otaru_format::digest::Digest;
use otaru_rollout::{DeviceId, Span, Time};
use serde_json::json;

use super::{audit, fleet_keys, serials};
use crate::app::Shared;
use crate::caller::Caller;
use crate::cluster::notices::{self, Notice};
use crate::db::{Connection, DbError, OptionalExtension as _, Row, params};
use crate::devices::bounds::{self, Bounds, NoRoom};
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
        _ => {
            notices::write(tx, &Notice::Devices(vec![device.to_string()]))?;
            Ok(password)
        }
    }
}

/// A login that is good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceLogin {
    /// Fleet key that it came with, also if it has a password of its own by now.
    pub fleet_key: Option<FleetKeyUse>,
}

/// Refusal of a device's login.
#[derive(Debug)]
pub enum Refused {
    /// The password is not good for this device.
    BadLogin,
    /// The certificate is not, in words for whoever shows it: it was signed by somebody who is trusted, so nothing is given away.
    Certificate(&'static str),
    /// The password is good, and there is no room for one more device.
    NoRoom {
        /// Id of the fleet key that is the password, or serial number of the certificate.
        key: String,
        /// Bound that is reached.
        why: NoRoom,
    },
    /// The database could not be asked.
    Unknown(DbError),
}

impl From<DbError> for Refused {
    fn from(error: DbError) -> Self {
        Self::Unknown(error)
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
    let (id, text, bounds) = (device.clone(), password.clone(), app.config.device_limits);
    let found = app.db.read(move |tx| {
        let verdict = check(tx, &id, &text)?;
        // Nor does a name that there is no room for, of which whoever has a fleet key can make up any number.
        let room = match &verdict {
            Verdict::New(key) => room(tx, &id, key, bounds)?,
            _ => Ok(()),
        };
        Ok::<_, DbError>((verdict, room))
    });
    let key = match found.await? {
        (Verdict::Good(login), _) => return Ok(login),
        (Verdict::Bad, _) => return Err(Refused::BadLogin),
        (Verdict::New(key), Ok(())) => key,
        (Verdict::New(key), Err(why)) => return Err(no_room(app, &device, key, why)),
    };
    match register_new(app, &device, &key, password, from).await? {
        Ok(login) => login.ok_or(Refused::BadLogin),
        Err(why) => Err(no_room(app, &device, key, why)),
    }
}

fn no_room(app: &Shared, device: &DeviceId, key: FleetKey, why: NoRoom) -> Refused {
    app.registry.note(device, &why);
    Refused::NoRoom { key: key.id, why }
}

/// Registers a device that comes with a good fleet key. One that is registered counts for the key's hour, whether or not somebody still
/// waits for the answer, and no other does.
async fn register_new(
    app: &Shared,
    device: &DeviceId,
    key: &FleetKey,
    password: String,
    from: IpAddr,
) -> Result<Result<Option<DeviceLogin>, NoRoom>, DbError> {
    let counted = match app.registry.count(key, app.clock.now()) {
        Ok(counted) => counted,
        Err(why) => return Ok(Err(why)),
    };
    let (now, bounds, id) = (app.clock.now(), app.config.device_limits, device.clone());
    let registering = app.db.write(move |tx| {
        let registered = register(tx, &id, &password, from, bounds, now)?;
        Ok::<_, DbError>(registered.map(|(login, is_new)| {
            if is_new {
                counted.keep();
            }
            login
        }))
    });
    registering.await
}

enum Verdict {
    Good(DeviceLogin),
    Bad,
    /// A good fleet key, and a device that did not come with it yet.
    New(FleetKey),
}

fn check(tx: &Connection, device: &DeviceId, password: &str) -> Result<Verdict, DbError> {
    struct Found {
        secret: Option<[u8; 32]>,
        fleet_key: Option<String>,
        came_with: Option<String>,
        is_retired: bool,
    }
    let sql = "SELECT secret, fleet_key, came_with, retired_at IS NOT NULL FROM devices WHERE id = ?";
    let found = |row: &Row| {
        Ok(Found {
            secret: row.get(0)?,
            fleet_key: row.get(1)?,
            came_with: row.get(2)?,
            is_retired: row.get(3)?,
        })
    };
    let known = tx.prepare(sql).query_row([device.as_str()], found).optional()?;
    match known {
        Some(Found { is_retired: true, .. }) => Ok(Verdict::Bad),
        // A device with a password of its own is that device only: no fleet key opens it. It counts for the one that it came with.
        Some(Found { secret: Some(hash), came_with, .. }) => match Digest(hash) == secret::hash(password) {
            true => Ok(Verdict::Good(DeviceLogin { fleet_key: used(tx, came_with)? })),
            false => Ok(Verdict::Bad),
        },
        Some(Found { fleet_key, .. }) => match (fleet_keys::find(tx, password)?, fleet_key) {
            (Some(key), Some(id)) if key.id == id => {
                Ok(Verdict::Good(DeviceLogin { fleet_key: used(tx, Some(id))? }))
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
    Ok(Ok((Some(DeviceLogin { fleet_key: used(tx, Some(key.id))? }), true)))
}

/// Looks how many devices a fleet key has: those that came with it, whichever password they have by now, and are not retired.
fn used(tx: &Connection, key: Option<String>) -> Result<Option<FleetKeyUse>, DbError> {
    let Some(id) = key else { return Ok(None) };
    let sql =
        "SELECT CASE WHEN max_devices < living THEN max_devices ELSE living END FROM fleet_keys WHERE id = ?";
    let living: Option<i64> = tx.prepare(sql).query_row([&id], |row| row.get(0)).optional()?;
    Ok(living.map(|living| FleetKeyUse { id, devices: u64::try_from(living).unwrap_or(0) }))
}

/// Whether there is room for a device that would come with this fleet key for the first time.
fn room(
    tx: &Connection,
    device: &DeviceId,
    key: &FleetKey,
    bounds: Bounds,
) -> Result<Result<(), NoRoom>, DbError> {
    if key.devices >= key.max_devices.unwrap_or(bounds.per_fleet_key) {
        return Ok(Err(NoRoom::FleetKey { name: key.name.clone(), devices: key.devices }));
    }
    Ok(bounds::no_room(tx, device, bounds.devices)?.map_or(Ok(()), Err))
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
    if let Err(why) = room(tx, device, key, bounds)? {
        return Ok(Err(why));
    }
    bounds::register(tx, device, bounds.devices, now)?;
    tx.execute("UPDATE fleet_keys SET devices = devices + 1 WHERE id = ?", [&key.id])?;
    let sql = "UPDATE devices SET fleet_key = ?1, came_with = ?1, revision = revision + 1 WHERE id = ?2";
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
    let known: Option<(bool, Option<i64>)> =
        tx.prepare(sql).query_row([device.as_str()], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
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

/// Looks, without a write, whether a claim would come with a good fleet key, and whether it finds room. `None` without a good key.
///
/// # Errors
/// When the database fails.
pub fn look(
    tx: &Connection,
    device: &DeviceId,
    fleet_key: &str,
    bounds: Bounds,
) -> Result<Option<Outlook>, DbError> {
    let Some(key) = fleet_keys::find(tx, fleet_key)? else { return Ok(None) };
    let is_known = bounds::is_known(tx, device)?;
    let room = match is_known {
        true => Ok(()),
        false => room(tx, device, &key, bounds)?,
    };
    Ok(Some(Outlook { key, is_known, room }))
}

/// Outlook of a claim.
#[derive(Debug)]
pub struct Outlook {
    /// Fleet key of the claim.
    pub key: FleetKey,
    /// Whether the device is known.
    pub is_known: bool,
    /// Whether there is room for it.
    pub room: Result<(), NoRoom>,
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
