//! `PATCH /releases/{id}`.

use axum::Json;
use axum::extract::State;
use otaru_api::{ChangeRelease, Release};

use crate::app::Shared;
use crate::problem::Problem;
use crate::releases::commands;
use crate::web::extract::{Body as JsonBody, Path};
use crate::web::login::Operator;

/// Change the notes of a release
#[utoipa::path(
    patch,
    path = "/releases/{id}",
    operation_id = "change_release",
    tag = "releases",
    params(("id" = i64, Path, description = "Number of the release.")),
    request_body = ChangeRelease,
    responses(
        (status = 200, description = "Release", body = Release),
    )
)]
pub(super) async fn change(
    State(app): State<Shared>,
    Operator(caller): Operator,
    Path(id): Path<i64>,
    JsonBody(change): JsonBody<ChangeRelease>,
) -> Result<Json<Release>, Problem> {
    Ok(Json(commands::set_notes(&app, caller, id, change.notes).await?))
}
