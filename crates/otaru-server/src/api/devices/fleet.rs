//! `GET /fleet`.

use axum::Json;
use axum::extract::State;
use serde::Serialize;

use crate::app::Shared;
use crate::caller::Caller;
use crate::devices::list::{self, Fleet};
use crate::problem::Problem;

/// The fleet in numbers, and how many devices there is room for.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct FleetInNumbers {
    #[serde(flatten)]
    fleet: Fleet,
    /// How many devices, without retired ones, the server takes
    most: u64,
    /// How often there was no room for one since the server started
    refused: u64,
}

/// The fleet in numbers
#[utoipa::path(get, path = "/fleet", tag = "devices", responses((status = 200, body = FleetInNumbers)))]
pub(super) async fn fleet(
    State(app): State<Shared>,
    _caller: Caller,
) -> Result<Json<FleetInNumbers>, Problem> {
    let fleet = app.db.read(list::fleet).await?;
    Ok(Json(FleetInNumbers { fleet, most: app.config.registration.devices, refused: app.registry.refused() }))
}
