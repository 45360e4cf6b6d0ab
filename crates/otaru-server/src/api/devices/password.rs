//! `POST /devices/{id}/password`.

use axum::Json;
use axum::extract::State;
use otaru_api::DeviceLogin;

use crate::app::Shared;
use crate::devices::commands;
use crate::devices::remarks::LoginChange;
use crate::problem::Problem;
use crate::web::extract::Path;
use crate::web::login::Admin;

/// Reset the password of a device
///
/// The previous password, or the fleet key that it registered with, is no longer valid for it.
#[utoipa::path(post, path = "/devices/{id}/password", tag = "devices", params(("id" = String, Path, description = "Id of the device.")),
    responses((status = 200, body = DeviceLogin)))]
pub(super) async fn new_password(
    State(app): State<Shared>,
    Admin(caller): Admin,
    Path(id): Path<String>,
) -> Result<Json<DeviceLogin>, Problem> {
    let password = commands::new_password(&app, caller, &id).await?;
    Ok(Json(DeviceLogin { password, username: id, remarks: LoginChange::Made.remarks(&app.config) }))
}
