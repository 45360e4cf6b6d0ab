//! `GET /fleet`.

use axum::Json;
use axum::extract::State;
use otaru_api::Fleet;

use crate::app::Shared;
use crate::caller::Caller;
use crate::devices::trusted;
use crate::problem::Problem;

/// Get the counts of the fleet
#[utoipa::path(get, path = "/fleet", tag = "devices", responses((status = 200, body = Fleet)))]
pub(super) async fn fleet(State(app): State<Shared>, _caller: Caller) -> Result<Json<Fleet>, Problem> {
    let counts = app.counted.get().await?;
    Ok(Json(Fleet {
        counts,
        most: app.config.device_limits.devices,
        refused: app.registry.refused(),
        ending_cas: trusted::ending_now(&app).await?,
    }))
}
