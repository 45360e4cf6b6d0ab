//! `POST /devices/{id}/unretire`.

use axum::Json;
use axum::extract::State;
use otaru_api::DeviceDetails;

use crate::app::Shared;
use crate::devices::commands;
use crate::problem::Problem;
use crate::web::extract::Path;
use crate::web::login::Operator;

/// Unretire a device
///
/// The login and tags are valid again, and open rollouts that target the device offer it their release.
#[utoipa::path(post, path = "/devices/{id}/unretire", tag = "devices", operation_id = "unretire_device",
    params(("id" = String, Path, description = "Id of the device.")), responses((status = 200, body = DeviceDetails)))]
pub(super) async fn unretire(
    State(app): State<Shared>,
    Operator(caller): Operator,
    Path(id): Path<String>,
) -> Result<Json<DeviceDetails>, Problem> {
    Ok(Json(commands::unretire(&app, caller, &id).await?))
}
