//! Everything that is known of one device.

use otaru_rollout::DeviceId;
use rusqlite::Connection;
use serde::Serialize;
use serde_json::Value;

use super::rows::{self, Device};
use crate::app::App;
use crate::mqtt::Contested;
use crate::problem::Problem;
use crate::timestamp::Timestamp;

/// All that is known of a device.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct Details {
    #[serde(flatten)]
    pub(crate) device: Device,
    /// Its last report, as it sent it
    pub(crate) report: Option<Value>,
    /// Its deployments, newest first, at most 50
    pub(crate) deployments: Vec<DeploymentOfDevice>,
    /// Where boards take the connection to the embedded broker from each other: several have this name
    pub(crate) contested: Option<Contested>,
}

/// A device's way in a rollout, in short.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct DeploymentOfDevice {
    /// Of which rollout.
    pub(crate) rollout: i64,
    /// What that is called.
    pub(crate) name: String,
    /// `ready`, `waiting`, `active`, or how it ended.
    pub(crate) standing: String,
    /// Why it failed, as a code.
    pub(crate) error_code: Option<String>,
    /// When it last changed.
    pub(crate) updated_at: Timestamp,
}

/// Returns all that is known of a device.
///
/// # Errors
/// When there is none.
pub(crate) fn details(tx: &Connection, id: &DeviceId) -> Result<Details, Problem> {
    let device = rows::get(tx, id)?.ok_or_else(|| Problem::not_found(format_args!("device {id}")))?;
    let mut rows = tx.prepare_cached(
        "SELECT d.rollout, r.name, d.standing, d.error_code, d.updated_at
         FROM deployments d JOIN rollouts r ON r.id = d.rollout WHERE d.device = ? ORDER BY d.rollout DESC LIMIT 50",
    )?;
    let deployments = rows.query_map([id.as_str()], |row| {
        Ok(DeploymentOfDevice {
            rollout: row.get(0)?,
            name: row.get(1)?,
            standing: row.get(2)?,
            error_code: row.get(3)?,
            updated_at: row.get(4)?,
        })
    })?;
    let deployments = deployments.collect::<Result<_, _>>()?;
    Ok(Details { device, report: rows::report(tx, id)?, deployments, contested: None })
}

impl Details {
    /// The same with what the broker knows of the device.
    pub(crate) fn and_contested(self, app: &App) -> Self {
        let contested = app.connections.contested(&self.device.id);
        Self { contested, ..self }
    }
}
