//! `GET /releases/{id}`.

use axum::Json;
use axum::extract::State;
use otaru_api::Release;

use crate::app::Shared;
use crate::caller::Caller;
use crate::problem::Problem;
use crate::releases::commands;
use crate::web::extract::Path;

/// Get a release
#[utoipa::path(
    get,
    path = "/releases/{id}",
    operation_id = "get_release",
    tag = "releases",
    params(("id" = i64, Path, description = "Number of the release.")),
    responses(
        (status = 200, description = "Release", body = Release),
    )
)]
pub(super) async fn get(
    State(app): State<Shared>,
    _caller: Caller,
    Path(id): Path<i64>,
) -> Result<Json<Release>, Problem> {
    Ok(Json(commands::find(&app, id).await?))
}
