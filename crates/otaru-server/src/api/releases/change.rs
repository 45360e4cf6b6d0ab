//! `PATCH /releases/{id}`.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;

use crate::app::Shared;
use crate::problem::Problem;
use crate::releases::{Release, commands};
use crate::web::extract::{Body as JsonBody, Path};
use crate::web::login::Operator;

/// What can be changed of a release.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ChangeRelease)]
pub(super) struct Change {
    /// What people should know about it.
    notes: String,
}

/// Changes a release's notes
#[utoipa::path(
    patch,
    path = "/releases/{id}",
    operation_id = "change_release",
    tag = "releases",
    params(("id" = i64, Path, description = "its number")),
    request_body = Change,
    responses(
        (status = 200, description = "the release", body = Release),
    )
)]
pub(super) async fn change(
    State(app): State<Shared>,
    Operator(caller): Operator,
    Path(id): Path<i64>,
    JsonBody(change): JsonBody<Change>,
) -> Result<Json<Release>, Problem> {
    Ok(Json(commands::set_notes(&app, caller, id, change.notes).await?))
}
