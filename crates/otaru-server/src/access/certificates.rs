//! Logins of devices with certificates. Their signatures were checked in the handshake; here it is decided whose they are, and whether they
//! are good still. A certificate that ended is known by its serial number, and refused from the same write on.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use otaru_rollout::{DeviceId, Time};
use rusqlite::{Connection, OptionalExtension as _, params};
use serde_json::json;

use super::devices::Refused;
use crate::app::Shared;
use crate::db::DbError;
use crate::devices::bounds::{self, Entry, NoRoom};
use crate::devices::history;
use crate::tls::Facts;

/// End of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Its device was retired; it is good again if that is taken back.
    Retired,
    /// Its device got another login.
    Replaced,
}

impl Ended {
    fn as_str(self) -> &'static str {
        match self {
            Self::Retired => "retired",
            Self::Replaced => "replaced",
        }
    }
}

/// Checks a certificate that a device with this id shows. A device that is new is registered: whoever signed the certificate vouches for
/// it.
///
/// # Errors
/// When the certificate is another's or good no more, or the device would be one too many.
pub async fn verify(app: &Shared, device: DeviceId, der: &[u8], from: IpAddr) -> Result<(), Refused> {
    let facts = Facts::read(der).map_err(|_| Refused::BadLogin)?;
    let now = app.clock.now();
    if !facts.names(device.as_str()) || facts.has_ended(now) {
        return Err(Refused::BadLogin);
    }
    app.certificate_ends.note(facts.ends, &device);
    let (id, serial) = (device.clone(), facts.serial.clone());
    match app.db.read(move |tx| check(tx, &id, &serial)).await? {
        Verdict::Good => return Ok(()),
        Verdict::Bad => return Err(Refused::BadLogin),
        Verdict::New => {}
    }
    let (id, most) = (device.clone(), app.config.device_limits.devices);
    let entered = app.db.write(move |tx| enter(tx, &id, &facts.serial, from, most, now)).await?;
    entered.inspect_err(|refused| {
        if let Refused::NoRoom(why) = refused {
            app.registry.note(&device, why);
        }
    })
}

/// Ends of the certificates that devices logged in with, so that their connections end with them. One for each certificate at most; the
/// authority's owner decides how many there are.
#[derive(Debug, Default)]
pub struct CertificateEnds(Mutex<BTreeSet<(Time, String)>>);

impl CertificateEnds {
    fn note(&self, ends: Time, device: &DeviceId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert((ends, device.to_string()));
    }

    /// Returns the devices whose certificates have ended since it was asked last.
    pub fn due(&self, now: Time) -> Vec<String> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut due = Vec::new();
        while all.first().is_some_and(|(ends, _)| now > *ends) {
            due.extend(all.pop_first().map(|(_, device)| device));
        }
        due
    }
}

enum Verdict {
    Good,
    Bad,
    /// Never seen before.
    New,
}

fn check(tx: &Connection, device: &DeviceId, serial: &str) -> Result<Verdict, DbError> {
    let sql = "SELECT EXISTS (SELECT 1 FROM devices WHERE id = ? AND retired_at IS NOT NULL)";
    if tx.prepare_cached(sql)?.query_row([device.as_str()], |row| row.get(0))? {
        return Ok(Verdict::Bad);
    }
    let sql = "SELECT device, refused IS NOT NULL FROM device_certificates WHERE serial = ?";
    let found: Option<(String, bool)> =
        tx.prepare_cached(sql)?.query_row([serial], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    Ok(match found {
        None => Verdict::New,
        Some((owner, false)) if owner == device.as_str() => Verdict::Good,
        Some(_) => Verdict::Bad,
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
    match check(tx, device, serial)? {
        Verdict::Good => return Ok(Ok(())),
        Verdict::Bad => return Ok(Err(Refused::BadLogin)),
        Verdict::New => {}
    }
    let entry = bounds::register(tx, device, most, now)?;
    if entry == Entry::NoRoom {
        return Ok(Err(Refused::NoRoom(NoRoom::Registry(most))));
    }
    let sql = "INSERT INTO device_certificates (serial, device, first_seen) VALUES (?, ?, ?)";
    tx.execute(sql, params![serial, device.as_str(), now.0.cast_signed()])?;
    let kind = if entry == Entry::Made { "registered" } else { "certificate" };
    history::note(tx, device, kind, &json!({"certificate": serial, "address": from}), now)?;
    Ok(Ok(()))
}

/// Ends the certificates of a device that were seen so far.
pub(crate) fn end(tx: &Connection, device: &DeviceId, why: Ended) -> Result<(), DbError> {
    let sql = "UPDATE device_certificates SET refused = ? WHERE device = ? AND refused IS NULL";
    tx.execute(sql, params![why.as_str(), device.as_str()])?;
    Ok(())
}

/// Lets those of a device that was retired be good again.
pub(crate) fn restore(tx: &Connection, device: &DeviceId) -> Result<(), DbError> {
    let sql = "UPDATE device_certificates SET refused = NULL WHERE device = ? AND refused = ?";
    tx.execute(sql, params![device.as_str(), Ended::Retired.as_str()])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_due_once_when_it_has_ended() {
        let ends = CertificateEnds::default();
        for (at, device) in [(20, "b"), (10, "a"), (10, "a"), (30, "c")] {
            ends.note(Time(at), &DeviceId::from(device));
        }
        assert!(ends.due(Time(10)).is_empty(), "its last moment is one of its own");
        assert_eq!(ends.due(Time(21)), ["a", "b"]);
        assert!(ends.due(Time(21)).is_empty());
        assert_eq!(ends.due(Time(99)), ["c"]);
    }
}
