//! Changes of a device that open rollouts hear of.

use otaru_rollout::{DeviceId, Event, Time};

use super::transaction::{Changes, RolloutTransaction};
use crate::db::{Connection, DbError};

/// Offers a device whose tags changed to rollouts that may be for it now.
pub fn device_changed(tx: &Connection, device: &DeviceId, now: Time) -> Result<Changes, DbError> {
    let mut transaction = RolloutTransaction::open(tx, now);
    transaction.offer_to_rollouts(device)?;
    transaction.finish()
}

/// Ends the deployments of a device that is retired.
pub fn device_retired(tx: &Connection, device: &DeviceId, now: Time) -> Result<Changes, DbError> {
    let mut transaction = RolloutTransaction::open(tx, now);
    transaction.event_of_device(device, &Event::Remove)?;
    transaction.finish()
}
