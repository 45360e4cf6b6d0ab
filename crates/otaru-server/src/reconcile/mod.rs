//! Makes the fleet what the database says it shall be.

use otaru_rollout::{DeviceId, Time};
use rusqlite::Connection;

use crate::db::DbError;

/// A device's tags or running image changed: open rollouts may be for it now.
///
/// # Errors
/// Those of the database.
pub fn device_changed(_tx: &Connection, _device: &DeviceId, _now: Time) -> Result<(), DbError> {
    Ok(())
}

/// A device is gone: its deployments are over.
///
/// # Errors
/// Those of the database.
pub fn device_retired(_tx: &Connection, _device: &DeviceId, _now: Time) -> Result<(), DbError> {
    Ok(())
}
