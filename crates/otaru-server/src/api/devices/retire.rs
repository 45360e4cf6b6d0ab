//! `POST /devices/{id}/retire`.

use axum::Json;
use axum::extract::State;
use otaru_api::DeviceDetails;

use crate::app::Shared;
use crate::devices::commands;
use crate::problem::Problem;
use crate::web::extract::Path;
use crate::web::login::Operator;

/// Retire a device
///
/// It is offered no firmware and cannot log in until it is unretired; its history stays.
#[utoipa::path(post, path = "/devices/{id}/retire", tag = "devices", operation_id = "retire_device",
    params(("id" = String, Path, description = "Id of the device.")), responses((status = 200, body = DeviceDetails)))]
pub(super) async fn retire(
    State(app): State<Shared>,
    Operator(caller): Operator,
    Path(id): Path<String>,
) -> Result<Json<DeviceDetails>, Problem> {
    Ok(Json(commands::retire(&app, caller, &id).await?))
}
