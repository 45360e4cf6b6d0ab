//! Makes the fleet what the database says it shall be.

use otaru_format::status::Status;
use otaru_rollout::{DeviceId, Time};
use rusqlite::Connection;

use crate::app::Shared;
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

/// Takes a device's report.
///
/// # Errors
/// Those of the database.
pub async fn take_report(
    _app: &Shared,
    _device: &DeviceId,
    _report: Status<String>,
    _may_register: bool,
) -> Result<(), DbError> {
    Ok(())
}

/// What a device that asks is to be told.
///
/// # Errors
/// Those of the database.
pub fn standing_offer(
    _tx: &Connection,
    _device: &DeviceId,
    _public_base: &str,
) -> Result<Option<serde_json::Value>, DbError> {
    Ok(None)
}
