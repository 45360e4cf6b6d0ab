//! Serial numbers of the certificates that devices have logged in with, and which of them are good no more.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use otaru_rollout::{DeviceId, Time};

use crate::db::{Connection, DbError, OptionalExtension as _, params};

/// End of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The device was retired; it is good again if that is taken back.
    Retired,
    /// The device got another login.
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

/// Standing of a certificate that a device shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is the device's, and was seen before.
    Good,
    /// It has ended, is another device's, or the device is retired.
    Bad,
    /// It was never seen before.
    New,
}

/// Returns the standing of a certificate.
pub(super) fn check(tx: &Connection, device: &DeviceId, serial: &str) -> Result<Standing, DbError> {
    let sql = "SELECT EXISTS (SELECT 1 FROM devices WHERE id = ? AND retired_at IS NOT NULL)";
    if tx.prepare(sql).query_row([device.as_str()], |row| row.get(0))? {
        return Ok(Standing::Bad);
    }
    let sql = "SELECT device, refused IS NOT NULL FROM device_certificates WHERE serial = ?";
    let found: Option<(String, bool)> =
        tx.prepare(sql).query_row([serial], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    Ok(match found {
        None => Standing::New,
        Some((owner, false)) if owner == device.as_str() => Standing::Good,
        Some(_) => Standing::Bad,
    })
}

/// Notes a certificate that was never seen before.
pub(super) fn add(tx: &Connection, device: &DeviceId, serial: &str, now: Time) -> Result<(), DbError> {
    let sql = "INSERT INTO device_certificates (serial, device, first_seen) VALUES (?, ?, ?)";
    tx.execute(sql, params![serial, device.as_str(), now.0.cast_signed()])?;
    Ok(())
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

/// Most certificates of a device that are shown.
const SHOWN: u32 = 10;

/// Returns the serial numbers of the good certificates of a device, the newest first, each with the time at which it was first seen.
pub(crate) fn good(tx: &Connection, device: &DeviceId) -> Result<Vec<(String, Time)>, DbError> {
    let rows = tx.prepare(
        "SELECT serial, first_seen FROM device_certificates WHERE device = ? AND refused IS NULL
         ORDER BY first_seen DESC, serial LIMIT ?",
    );
    let found = rows.query_map(params![device.as_str(), SHOWN], |row| {
        Ok((row.get(0)?, Time(row.get::<i64>(1)?.unsigned_abs())))
    })?;
    found.collect()
}

/// Ends of the certificates that devices logged in with since the server started, so that their connections end with them, and people see
/// them. One for each certificate at most; the authority's owner decides how many there are.
#[derive(Debug, Default)]
pub struct CertificateEnds(Mutex<Ends>);

#[derive(Debug, Default)]
struct Ends {
    /// Devices whose connections are still to be ended.
    due: BTreeSet<(Time, String)>,
    by_serial: HashMap<String, Time>,
}

impl CertificateEnds {
    pub(super) fn note(&self, serial: &str, ends: Time, device: &DeviceId) {
        let mut all = self.lock();
        all.due.insert((ends, device.to_string()));
        all.by_serial.insert(serial.to_owned(), ends);
    }

    /// Returns the last moment of a certificate, where a device has shown it.
    pub(crate) fn end(&self, serial: &str) -> Option<Time> {
        self.lock().by_serial.get(serial).copied()
    }

    /// Returns the devices whose certificates have ended since it was asked last.
    pub fn due(&self, now: Time) -> Vec<String> {
        let mut all = self.lock();
        let mut due = Vec::new();
        while all.due.first().is_some_and(|(ends, _)| now > *ends) {
            due.extend(all.due.pop_first().map(|(_, device)| device));
        }
        due
    }

    fn lock(&self) -> MutexGuard<'_, Ends> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_due_once_when_it_has_ended() {
        let ends = CertificateEnds::default();
        for (at, device) in [(20, "b"), (10, "a"), (10, "a"), (30, "c")] {
            ends.note(&format!("0{device}"), Time(at), &DeviceId::from(device));
        }
        assert!(ends.due(Time(10)).is_empty(), "its last moment is one of its own");
        assert_eq!(ends.due(Time(21)), ["a", "b"]);
        assert!(ends.due(Time(21)).is_empty());
        assert_eq!(ends.due(Time(99)), ["c"]);
        assert_eq!(
            (ends.end("0a"), ends.end("0x")),
            (Some(Time(10)), None),
            "it is known also after its end"
        );
    }
}
