//! Changes that people make to devices. Each change is one transaction with its audit entry, and open rollouts hear of it; what is
//! to be told of it then is given back.

use crate::cluster::notices::{self, Notice};
use crate::db::{Connection, params};
use otaru_api::ChangeDevice;
use otaru_rollout::{DeviceId, Time};
use serde_json::json;

use super::{history, rows, tags};
use crate::access::audit;
use crate::access::serials::{self, Ended};
use crate::caller::Caller;
use crate::problem::Problem;
use crate::rollouts::device::{device_changed, device_retired};
use crate::rollouts::transaction::{self, Changes, Message};

/// Changes a device that is not retired.
///
/// # Errors
/// When there is none, or it cannot be changed so.
pub fn change(
    tx: &Connection,
    caller: &Caller,
    device: &DeviceId,
    change: &ChangeDevice,
    now: Time,
) -> Result<Changes, Problem> {
    exists(tx, device)?;
    tags::check(&change.tags)?;
    tags::check_removed(&change.remove_tags)?;
    let mut changes = Changes::default();
    if let Some(label) = &change.label {
        let label = match label.trim() {
            "" => None,
            text => Some(crate::access::name::plain_name(text)?),
        };
        let sql = "UPDATE devices SET label = ?, revision = revision + 1 WHERE id = ?";
        tx.execute(sql, params![label, device.as_str()])?;
        history::note(tx, device, "label", &json!({"label": label, "by": caller.name}), now)?;
    }
    if !change.tags.is_empty() || !change.remove_tags.is_empty() {
        tags::remove(tx, device, &change.remove_tags)?;
        tags::add(tx, device, &change.tags)?;
        tags::check_count(tx, device)?;
        let detail = json!({"set": change.tags, "removed": change.remove_tags, "by": caller.name});
        history::note(tx, device, "tags", &detail, now)?;
        changes = device_changed(tx, device, now)?;
    }
    audit::note(tx, caller, "device.change", &format!("device/{device}"), &json!(change), now)?;
    Ok(changes)
}

/// Retires a device: it gets nothing any more, cannot log in, and is shown no longer. Its history stays, and so does its login,
/// which is good again if it is taken back.
///
/// # Errors
/// When there is none.
pub fn retire(tx: &Connection, caller: &Caller, device: &DeviceId, now: Time) -> Result<Changes, Problem> {
    exists(tx, device)?;
    let sql = "UPDATE devices SET retired_at = ?, reachable = FALSE, polled_at = NULL, revision = revision + 1 WHERE id = ?";
    tx.execute(sql, params![now.0.cast_signed(), device.as_str()])?;
    serials::end(tx, device, Ended::Retired)?;
    // From here on no rollout takes it.
    let changes = device_retired(tx, device, now)?;
    history::note(tx, device, "retired", &json!({"by": caller.name}), now)?;
    audit::note(tx, caller, "device.retire", &format!("device/{device}"), &json!({}), now)?;
    notices::write(tx, &Notice::Retired(device.to_string()))?;
    Ok(changes)
}

/// Takes back a device that was retired, with its login and tags. It is away until it is heard.
///
/// # Errors
/// When there is none, or it is not retired.
pub fn unretire(tx: &Connection, caller: &Caller, device: &DeviceId, now: Time) -> Result<Changes, Problem> {
    match rows::get(tx, device)? {
        Some(found) if found.retired_at.is_some() => {}
        Some(_) => return Err(Problem::conflict(format!("the device {device} is not retired"))),
        None => return Err(Problem::not_found(format_args!("device {device}"))),
    }
    let sql = "UPDATE devices SET retired_at = NULL, revision = revision + 1 WHERE id = ?";
    tx.execute(sql, [device.as_str()])?;
    serials::restore(tx, device)?;
    history::note(tx, device, "unretired", &json!({"by": caller.name}), now)?;
    audit::note(tx, caller, "device.unretire", &format!("device/{device}"), &json!({}), now)?;
    let mut changes = device_changed(tx, device, now)?;
    // One that stayed connected, as at a broker that decides by itself, says so at once; older firmware would take it for a command.
    if tx.prepare("SELECT 1 FROM devices WHERE id = ? AND epochs <> ''").exists([device.as_str()])? {
        transaction::tell(tx, device, &Message::Report {}, now)?;
        changes.outbox = true;
    }
    Ok(changes)
}

/// Whether something can be done with a device.
///
/// # Errors
/// When there is none, or it is retired.
pub(crate) fn exists(tx: &Connection, device: &DeviceId) -> Result<(), Problem> {
    match rows::get(tx, device)? {
        Some(found) if found.retired_at.is_none() => Ok(()),
        Some(_) => Err(retired(device)),
        None => Err(Problem::not_found(format_args!("device {device}"))),
    }
}

/// The same words for all that a retired device is not good for.
pub(crate) fn retired(device: &DeviceId) -> Problem {
    Problem::conflict(format!(
        "the device {device} is retired; `otaru devices unretire {device}` (`POST /devices/{device}/unretire`) takes it back"
    ))
}
