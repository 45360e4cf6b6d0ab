//! `PATCH /devices/{id}`.

use axum::Json;
use axum::extract::State;

use crate::app::Shared;
use crate::devices::commands;
use crate::devices::details::Details;
use crate::devices::edit::Change;
use crate::problem::Problem;
use crate::web::extract::{Body, Path};
use crate::web::login::Operator;

/// Change what a device is called, and its tags
#[utoipa::path(patch, path = "/devices/{id}", tag = "devices", operation_id = "change_device",
    params(("id" = String, Path)), request_body = Change, responses((status = 200, body = Details)))]
pub(super) async fn change(
    State(app): State<Shared>,
    Operator(caller): Operator,
    Path(id): Path<String>,
    Body(change): Body<Change>,
) -> Result<Json<Details>, Problem> {
    Ok(Json(commands::change(&app, caller, &id, change).await?))
}
