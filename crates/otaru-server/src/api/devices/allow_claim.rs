//! `POST /devices/{id}/allow-claim`.

use axum::Json;
use axum::extract::State;
use otaru_api::DeviceDetails;

use crate::app::Shared;
use crate::devices::commands;
use crate::problem::Problem;
use crate::web::extract::Path;
use crate::web::login::Admin;

/// Allow a device to be claimed
///
/// Within an hour, a fleet key can be exchanged once for a login of this device, although the device is known.
#[utoipa::path(post, path = "/devices/{id}/allow-claim", tag = "devices", params(("id" = String, Path, description = "Id of the device.")),
    responses((status = 200, body = DeviceDetails)))]
pub(super) async fn allow_claim(
    State(app): State<Shared>,
    Admin(caller): Admin,
    Path(id): Path<String>,
) -> Result<Json<DeviceDetails>, Problem> {
    Ok(Json(commands::allow_claim(&app, caller, &id).await?))
}
