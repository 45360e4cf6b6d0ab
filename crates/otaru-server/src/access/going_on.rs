//! Devices that logged in at somebody else's broker before this server started: whether they may go on without another login.

use otaru_rollout::DeviceId;

use crate::app::Shared;
use crate::db::{DbError, OptionalExtension as _};

/// Whether a device that logged in once with its name as the user name still has a login that is good.
///
/// # Errors
/// When the database fails.
pub async fn may(app: &Shared, device: DeviceId) -> Result<bool, DbError> {
    let sql = "SELECT secret IS NOT NULL OR EXISTS
                 (SELECT 1 FROM fleet_keys WHERE fleet_keys.id = devices.fleet_key AND revoked_at IS NULL)
               FROM devices WHERE id = ? AND retired_at IS NULL";
    let found = app.db.read(move |tx| {
        let found = tx.prepare(sql).query_row([device.as_str()], |row| row.get(0)).optional()?;
        Ok::<Option<bool>, DbError>(found)
    });
    Ok(found.await?.unwrap_or(false))
}
