//! Commands about devices: each is one write with its line in the audit log, and everybody is told of it.
//!
//! The steps inside a write are in [`edit`].

use crate::db::Connection;
use otaru_api::{ChangeDevice, Device, DeviceDetails, DeviceQuery, Event};
use otaru_format::topic::Topics;
use otaru_rollout::{DeviceId, Time};
use serde_json::json;

use super::bounds::{self, Entry};
use super::details::{self, details};
use super::edit;
use super::list;
use super::query;
use super::remarks::LoginChange;
use super::rows;
use crate::access::{audit, devices as logins};
use crate::app::App;
use crate::caller::Caller;
use crate::problem::Problem;
use crate::rollouts::transaction::Changes;

/// The most devices that one request may change.
const MOST_AT_ONCE: usize = 10_000;

/// Returns a device's id as it stands in a path or a body.
///
/// # Errors
/// When no device can be called so.
pub(crate) fn device_id(app: &App, text: &str) -> Result<DeviceId, Problem> {
    match Topics::new(&app.config.base, text) {
        Ok(_) => Ok(DeviceId::from(text)),
        Err(error) => Err(Problem::invalid(error.to_string())),
    }
}

/// Changes a device and tells everybody.
///
/// # Errors
/// When there is none, or it cannot be changed so.
pub(crate) async fn change(
    app: &App,
    caller: Caller,
    id: &str,
    change: ChangeDevice,
) -> Result<DeviceDetails, Problem> {
    let now = app.clock.now();
    edited(app, id, move |tx, id| edit::change(tx, &caller, id, &change, now)).await
}

/// Carries an edit out, and tells everybody.
async fn edited(
    app: &App,
    id: &str,
    edit: impl Fn(&Connection, &DeviceId) -> Result<Changes, Problem> + Send + 'static,
) -> Result<DeviceDetails, Problem> {
    let id = device_id(app, id)?;
    let done = app.db.write(move |tx| {
        let changes = edit(tx, &id)?;
        Ok::<_, Problem>((details(tx, &id)?, changes))
    });
    let (details, changes) = done.await?;
    changes.tell(app);
    tell(app, &details.device);
    Ok(details::and_contested(details, app))
}

/// Retires a device, ends its connections, and tells everybody.
///
/// # Errors
/// When there is none.
pub(crate) async fn retire(app: &App, caller: Caller, id: &str) -> Result<DeviceDetails, Problem> {
    let now = app.clock.now();
    let details = edited(app, id, move |tx, id| edit::retire(tx, &caller, id, now)).await?;
    app.connections.retire(&app.config.base, &details.device.id);
    Ok(DeviceDetails { remarks: LoginChange::Ended.remarks(&app.config), ..details })
}

/// Takes back a retired device and tells everybody.
///
/// # Errors
/// When there is none, or it is not retired.
pub(crate) async fn unretire(app: &App, caller: Caller, id: &str) -> Result<DeviceDetails, Problem> {
    let now = app.clock.now();
    let details = edited(app, id, move |tx, id| edit::unretire(tx, &caller, id, now)).await?;
    // It is there from its next report on, whatever that says.
    app.recent.forget(&DeviceId::from(details.device.id.as_str()));
    Ok(DeviceDetails { remarks: LoginChange::Restored.remarks(&app.config), ..details })
}

fn tell(app: &App, device: &Device) {
    app.events.tell(Event::Device {
        id: device.id.clone(),
        state: device.state.clone(),
        version: device.version.clone(),
        reachable: device.reachable,
        progress: None,
        next_trial: device.next_trial(),
    });
}

/// Adds a device, with a login of its own; gives back its password.
///
/// # Errors
/// When it is known already, there is no room for it, or it cannot be so.
pub(crate) fn add(
    tx: &Connection,
    caller: &Caller,
    id: &DeviceId,
    change: &ChangeDevice,
    most: u64,
    now: Time,
) -> Result<(Device, String), Problem> {
    match bounds::register(tx, id, most, now)? {
        Entry::Made => {}
        Entry::NoRoom(why) => return Err(why.into()),
        Entry::Known => {
            edit::exists(tx, id)?;
            return Err(Problem::conflict(format!(
                "the device {id} is known already; `otaru devices password {id}` (`POST /devices/{id}/password`) makes a new login"
            )));
        }
    }
    // A device that has not reported is in no rollout yet.
    drop(edit::change(tx, caller, id, change, now)?);
    let password = logins::set_password(tx, id)?;
    audit::note(tx, caller, "device.add", &format!("device/{id}"), &json!({}), now)?;
    let device = rows::get(tx, id)?.ok_or_else(|| Problem::not_found("such device"))?;
    Ok((device, password))
}

/// Makes a new password for a device, and ends the connections of whoever has the old one.
///
/// # Errors
/// When there is no such device.
pub(crate) async fn new_password(app: &App, caller: Caller, id: &str) -> Result<String, Problem> {
    let (id, now) = (device_id(app, id)?, app.clock.now());
    let device = id.to_string();
    let password = app.db.write(move |tx| {
        let password = logins::set_password(tx, &id)?;
        audit::note(tx, &caller, "device.password", &format!("device/{id}"), &json!({}), now)?;
        Ok::<_, Problem>(password)
    });
    let password = password.await?;
    app.connections.end_devices([device]);
    Ok(password)
}

/// Lets a device that is known be claimed once with a fleet key, within the next hour.
///
/// # Errors
/// When there is none.
pub(crate) async fn allow_claim(app: &App, caller: Caller, id: &str) -> Result<DeviceDetails, Problem> {
    let (id, now) = (device_id(app, id)?, app.clock.now());
    let allowed = app.db.write(move |tx| {
        logins::allow_claim(tx, &caller, &id, now)?;
        details(tx, &id)
    });
    let details = details::and_contested(allowed.await?, app);
    Ok(DeviceDetails { remarks: LoginChange::ByFleetKey.remarks(&app.config), ..details })
}

/// Returns the ids of devices that match; not more than may be changed at once.
///
/// # Errors
/// When there are more.
pub(crate) async fn matching(app: &App, which: DeviceQuery) -> Result<Vec<String>, Problem> {
    let filter = query::filter(which)?;
    let ids = app.db.read(move |tx| list::ids(tx, &filter, MOST_AT_ONCE + 1)).await?;
    not_too_many(&ids)?;
    Ok(ids)
}

fn not_too_many(ids: &[String]) -> Result<(), Problem> {
    match ids.len() {
        0..=MOST_AT_ONCE => Ok(()),
        _ => Err(Problem::invalid(format!("at most {MOST_AT_ONCE} devices at once; narrow it down"))),
    }
}

/// Changes many devices, all or none, and tells everybody. Says how many.
///
/// # Errors
/// When one of them cannot be changed so.
pub(crate) async fn change_many(
    app: &App,
    caller: Caller,
    ids: Vec<String>,
    change: ChangeDevice,
) -> Result<usize, Problem> {
    not_too_many(&ids)?;
    let ids = ids.iter().map(|id| device_id(app, id)).collect::<Result<Vec<_>, _>>()?;
    let (devices, now) = (ids.len(), app.clock.now());
    let changed = app.db.write(move |tx| {
        let each = ids.iter().map(|id| edit::change(tx, &caller, id, &change, now));
        each.collect::<Result<Vec<_>, _>>()
    });
    changed.await?.into_iter().for_each(|changes| changes.tell(app));
    Ok(devices)
}
