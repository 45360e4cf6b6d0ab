//! Bounds on the number of devices, and the log lines about those that find no room.
//!
//! Whoever has a fleet key, or reports to a broker where everybody may, can make up names. So the registry has a bound, and each fleet key
//! has one.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use otaru_api::FleetKey;
use otaru_format::name::{MAX_NAME, is_plain};
use otaru_rollout::{DeviceId, Time};

use crate::db::{Connection, DbError, OptionalExtension as _, params};
use crate::problem::Problem;
use crate::rates::{Registration, Registrations};
use crate::text::cut;

/// The pause between two lines in the log about devices that found no room.
const COMPLAINTS: Duration = Duration::from_secs(60);

/// Sentence about a name that looks like another.
const BAD_NAME: &str = "the device's name has a character that nobody sees, or that turns the direction of writing; give it another";

/// Bounds on the number of devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// In all, without retired ones.
    pub devices: u64,
    /// With one fleet key, where that has no bound of its own.
    pub per_fleet_key: u64,
    /// New ones with one fleet key in an hour.
    pub per_fleet_key_and_hour: u32,
}

impl Default for Bounds {
    /// As many as have their last report kept in memory, and half of them with one key, 10,000 in an hour.
    fn default() -> Self {
        Self { devices: 200_000, per_fleet_key: 100_000, per_fleet_key_and_hour: 10_000 }
    }
}

/// Why a device does not become known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoRoom {
    /// Its name looks like another's.
    Name,
    /// There are as many devices as the server takes.
    Registry(u64),
    /// As many devices came with this fleet key as may.
    FleetKey {
        /// The key's name.
        name: String,
        /// Number of devices.
        devices: u64,
    },
    /// As many new devices came with this fleet key within an hour as may.
    Hour {
        /// The key's name.
        name: String,
        /// Number of devices in an hour.
        devices: u32,
    },
}

impl NoRoom {
    /// Returns the sentence for a device, which need not know the server's figures.
    pub fn for_devices(&self) -> &'static str {
        match self {
            Self::Name => BAD_NAME,
            Self::Registry(_) => "the server has no room for a new device; its log says more",
            Self::FleetKey { .. } => "this fleet key has let in as many devices as it may",
            Self::Hour { .. } => {
                "this fleet key has let in as many new devices as it may for now; try again later"
            }
        }
    }
}

impl std::fmt::Display for NoRoom {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Name => f.write_str(BAD_NAME),
            Self::Registry(most) => write!(
                f,
                "the server has {most} devices, as many as it takes; retire some, or start it with a higher --max-devices"
            ),
            Self::FleetKey { name, devices } => write!(
                f,
                "the fleet key {name:?} let {devices} devices in, as many as it may; make another fleet key, or revoke this one if \
                 these are not your devices"
            ),
            Self::Hour { name, devices } => write!(
                f,
                "the fleet key {name:?} lets {devices} new devices in an hour; they come in later, or start the server with a higher \
                 --max-registrations"
            ),
        }
    }
}

impl From<NoRoom> for Problem {
    fn from(why: NoRoom) -> Self {
        match why {
            NoRoom::Hour { .. } => {
                Self::new(StatusCode::TOO_MANY_REQUESTS, "too-many-requests", why.to_string()).retry_after(60)
            }
            NoRoom::Name => Self::invalid(why.to_string()),
            NoRoom::Registry(_) | NoRoom::FleetKey { .. } => {
                Self::new(StatusCode::CONFLICT, "no-room", why.to_string())
            }
        }
    }
}

/// Result of looking a device up, or of registering it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// It has a row now, and had none.
    Made,
    /// It had one.
    Known,
    /// It has none, for this reason.
    NoRoom(NoRoom),
}

/// Makes a row for a device that has none, if there is room for it.
pub fn register(tx: &Connection, id: &DeviceId, most: u64, now: Time) -> Result<Entry, DbError> {
    if is_known(tx, id)? {
        return Ok(Entry::Known);
    }
    if let Some(why) = no_room(tx, id, most)? {
        return Ok(Entry::NoRoom(why));
    }
    let sql = "INSERT INTO devices (id, first_seen) VALUES (?, ?)";
    tx.prepare(sql).execute(params![id.as_str(), now.0.cast_signed()])?;
    Ok(Entry::Made)
}

/// Returns why a device does not get a row that has none.
pub fn no_room(tx: &Connection, id: &DeviceId, most: u64) -> Result<Option<NoRoom>, DbError> {
    if is_known(tx, id)? {
        return Ok(None);
    }
    if !is_plain(id.as_str()) {
        return Ok(Some(NoRoom::Name));
    }
    Ok((count(tx)? >= most).then_some(NoRoom::Registry(most)))
}

/// Whether a device has a row.
pub fn is_known(tx: &Connection, id: &DeviceId) -> Result<bool, DbError> {
    tx.prepare("SELECT 1 FROM devices WHERE id = ?").exists([id.as_str()])
}

/// Returns the number of devices, without retired ones.
pub fn count(tx: &Connection) -> Result<u64, DbError> {
    let sql = "SELECT value FROM counts WHERE name = 'devices'";
    let count: Option<i64> = tx.prepare(sql).query_row((), |row| row.get(0)).optional()?;
    Ok(u64::try_from(count.unwrap_or(0)).unwrap_or(0))
}

/// Counts of devices that would become known.
#[derive(Debug)]
pub struct Registry {
    /// New devices by fleet key.
    registrations: Arc<Registrations>,
    per_hour: u32,
    refused: AtomicU64,
    complained: Mutex<Option<Instant>>,
}

impl Registry {
    /// Counts against these bounds.
    pub fn new(bounds: Bounds, registrations: Arc<Registrations>) -> Self {
        Self {
            registrations,
            per_hour: bounds.per_fleet_key_and_hour,
            refused: AtomicU64::default(),
            complained: Mutex::default(),
        }
    }

    /// Counts a device that comes with this fleet key for the first time; to be kept where it is registered, in the same transaction:
    /// whoever asked may be gone by then.
    ///
    /// # Errors
    /// When too many were within an hour.
    pub fn count(&self, key: &FleetKey, now: Time) -> Result<Registration, NoRoom> {
        let counted = self.registrations.count(&key.id, now);
        counted.ok_or_else(|| NoRoom::Hour { name: key.name.clone(), devices: self.per_hour })
    }

    /// Notes that there was no room for a device. The log has a line a minute at most.
    pub fn note(&self, device: &DeviceId, why: &dyn std::fmt::Display) {
        let refused = self.refused.fetch_add(1, Ordering::Relaxed) + 1;
        let mut last = self.complained.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_none_or(|last| last.elapsed() >= COMPLAINTS) {
            *last = Some(Instant::now());
            let mut device = device.to_string();
            cut(&mut device, MAX_NAME);
            tracing::warn!(%device, refused, %why, "a device was not registered");
        }
    }

    /// Returns the number of devices that were turned away since the start.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::Db;

    #[test]
    fn devices_are_counted_whatever_happens_to_them() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("otaru.db");
        drop(Db::open(&path).unwrap());
        let tx = Connection::open(&path).unwrap();
        let enter =
            |tx: &Connection, id: &str, most| register(tx, &DeviceId::from(id), most, Time(1)).unwrap();
        assert_eq!(
            [enter(&tx, "a", 2), enter(&tx, "a", 2), enter(&tx, "b", 2)],
            [Entry::Made, Entry::Known, Entry::Made]
        );
        let full = Entry::NoRoom(NoRoom::Registry(2));
        assert_eq!((enter(&tx, "c", 2), enter(&tx, "b", 2)), (full, Entry::Known));
        assert_eq!(enter(&tx, "b\u{200b}", 9), Entry::NoRoom(NoRoom::Name));
        let check = |tx: &Connection, sql: &str, wanted| {
            tx.execute_batch(sql).unwrap();
            assert_eq!(count(tx).unwrap(), wanted, "{sql}");
        };
        check(&tx, "UPDATE devices SET retired_at = 1 WHERE id = 'a'", 1);
        check(&tx, "UPDATE devices SET retired_at = 2, label = 'x' WHERE id = 'a'", 1);
        assert_eq!(enter(&tx, "c", 2), Entry::Made, "a retired one made room");
        check(&tx, "UPDATE devices SET retired_at = NULL", 3);
        check(&tx, "DELETE FROM devices WHERE id = 'b'", 2);
        check(&tx, "INSERT INTO devices (id, first_seen, retired_at) VALUES ('d', 1, 1)", 2);
        check(&tx, "DELETE FROM devices WHERE id = 'd'", 2);
        let undone = tx.transaction(|tx| {
            assert_eq!(enter(tx, "e", 3), Entry::Made);
            Err::<(), _>(DbError::Closed)
        });
        assert!(undone.is_err());
        assert_eq!(count(&tx).unwrap(), 2, "what was taken back does not count");
    }
}
