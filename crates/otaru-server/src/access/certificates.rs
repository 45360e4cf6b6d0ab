//! Logins of devices with certificates. Their signatures were checked in the handshake; here it is decided whose they are, and whether they
//! are good still. A certificate that ended is known by its serial number, and refused from the same write on.

use std::net::IpAddr;

use otaru_rollout::{DeviceId, Time};
use serde_json::json;

use super::devices::Refused;
use super::serials::{self, Standing};
use crate::app::Shared;
use crate::db::{Connection, DbError};
use crate::devices::bounds::{self, Entry};
use crate::devices::history;
use crate::tls::Facts;

/// Sentence for a certificate of another device.
pub(crate) const ANOTHERS: &str = "the certificate is another device's: the client id has to be its name";
const ENDED: &str = "the certificate has ended";
const REFUSED: &str = "the certificate was replaced, or is another device's, or the device is retired";

/// Checks a certificate that a device with this id shows. A device that is new is registered: whoever signed the certificate vouches for
/// it.
///
/// # Errors
/// When the certificate is another's or good no more, or the device would be one too many.
pub async fn verify(app: &Shared, device: DeviceId, der: &[u8], from: IpAddr) -> Result<(), Refused> {
    let facts = Facts::read(der).map_err(|_| Refused::BadLogin)?;
    let now = app.clock.now();
    if !facts.names(device.as_str()) {
        return Err(Refused::Certificate(ANOTHERS));
    }
    if facts.has_ended(now) {
        return Err(Refused::Certificate(ENDED));
    }
    app.certificate_ends.note(&facts.serial, facts.ends, &device);
    admit(app, device, facts.serial, from).await
}

/// Checks a certificate of a device with this id, of which somebody who is trusted has checked all but whether it has ended. A device that
/// is new is registered.
///
/// # Errors
/// When the certificate is another's or good no more, or the device would be one too many.
pub async fn admit(app: &Shared, device: DeviceId, serial: String, from: IpAddr) -> Result<(), Refused> {
    let now = app.clock.now();
    let (id, shown) = (device.clone(), serial.clone());
    match app.db.read(move |tx| serials::check(tx, &id, &shown)).await? {
        Standing::Good => return Ok(()),
        Standing::Bad => return Err(Refused::Certificate(REFUSED)),
        Standing::New => {}
    }
    let (id, most) = (device.clone(), app.config.device_limits.devices);
    let entered = app.db.write(move |tx| enter(tx, &id, &serial, from, most, now)).await?;
    entered.inspect_err(|refused| {
        if let Refused::NoRoom { why, .. } = refused {
            app.registry.note(&device, why);
        }
    })
}

/// Notes a certificate that comes for the first time, and its device if that does, too.
fn enter(
    tx: &Connection,
    device: &DeviceId,
    serial: &str,
    from: IpAddr,
    most: u64,
    now: Time,
) -> Result<Result<(), Refused>, DbError> {
    // Between the look and the write something else may have happened.
    match serials::check(tx, device, serial)? {
        Standing::Good => return Ok(Ok(())),
        Standing::Bad => return Ok(Err(Refused::Certificate(REFUSED))),
        Standing::New => {}
    }
    let entry = bounds::register(tx, device, most, now)?;
    if let Entry::NoRoom(why) = entry {
        return Ok(Err(Refused::NoRoom { key: serial.to_owned(), why }));
    }
    serials::add(tx, device, serial, now)?;
    let kind = if entry == Entry::Made { "registered" } else { "certificate" };
    history::note(tx, device, kind, &json!({"certificate": serial, "address": from}), now)?;
    Ok(Ok(()))
}
