//! Makes the fleet what the database says it shall be.
//!
//! | file | what |
//! | --- | --- |
//! | [`ingest`] | takes in what devices report, and whether they are there |
//! | [`inbox`] | where that comes from: the broker; `mailbox` is what waits there |
//! | [`report`] | reads a report, and bounds it |
//! | `restored` | after a restore: numbers go on above those that devices name |
//! | [`work`] | carries on: scans, starts, moments that have come |
//! | [`outbox`] | sends what devices are to be told |
//!
//! Everything that matters is in the database before anybody acts on it, and every step may be carried out twice: so all of this
//! can be killed at any moment and goes on where it was.

pub mod inbox;
pub mod ingest;
mod mailbox;
pub mod outbox;
pub mod report;
pub(crate) mod restored;
pub mod work;

use otaru_rollout::{DeviceId, Event, Time};
use rusqlite::Connection;

pub use ingest::{take_poll, take_presence, take_report};
pub use outbox::standing_offer;

use crate::db::DbError;
use crate::rollouts::transaction::{Changes, RolloutTransaction};

/// A device's tags changed: open rollouts may be for it now.
///
/// # Errors
/// Those of the database.
pub fn device_changed(tx: &Connection, device: &DeviceId, now: Time) -> Result<Changes, DbError> {
    let mut transaction = RolloutTransaction::open(tx, now);
    transaction.offer_to_rollouts(device)?;
    transaction.finish()
}

/// A device is gone: its deployments are over.
///
/// # Errors
/// Those of the database.
pub fn device_retired(tx: &Connection, device: &DeviceId, now: Time) -> Result<Changes, DbError> {
    let mut transaction = RolloutTransaction::open(tx, now);
    transaction.event_of_device(device, &Event::Remove)?;
    transaction.finish()
}
