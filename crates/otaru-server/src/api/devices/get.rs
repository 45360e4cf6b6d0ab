//! `GET /devices/{id}`.

use axum::Json;
use axum::extract::State;
use otaru_api::DeviceDetails;

use crate::app::Shared;
use crate::caller::Caller;
use crate::devices::commands::device_id;
use crate::devices::details;
use crate::problem::Problem;
use crate::web::extract::Path;

/// Get a device, with its last report and its deployments
#[utoipa::path(get, path = "/devices/{id}", tag = "devices", operation_id = "get_device",
    params(("id" = String, Path, description = "Id of the device.")), responses((status = 200, body = DeviceDetails)))]
pub(super) async fn get(
    State(app): State<Shared>,
    _caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<DeviceDetails>, Problem> {
    let id = device_id(&app, &id)?;
    let details = app.db.read(move |tx| details::details(tx, &id)).await?;
    Ok(Json(details::and_contested(details, &app)))
}
