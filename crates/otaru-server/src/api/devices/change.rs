//! `PATCH /devices/{id}`.

use axum::Json;
use axum::extract::State;
use otaru_api::{ChangeDevice, DeviceDetails};

use crate::app::Shared;
use crate::devices::commands;
use crate::problem::Problem;
use crate::web::extract::{Body, Path};
use crate::web::login::Operator;

/// Change the label and tags of a device
#[utoipa::path(patch, path = "/devices/{id}", tag = "devices", operation_id = "change_device",
    params(("id" = String, Path, description = "Id of the device.")), request_body = ChangeDevice, responses((status = 200, body = DeviceDetails)))]
pub(super) async fn change(
    State(app): State<Shared>,
    Operator(caller): Operator,
    Path(id): Path<String>,
    Body(change): Body<ChangeDevice>,
) -> Result<Json<DeviceDetails>, Problem> {
    Ok(Json(commands::change(&app, caller, &id, change).await?))
}
