//! `POST /releases/{id}/unyank`.

use axum::Json;
use axum::extract::State;
use otaru_api::Release;

use crate::app::Shared;
use crate::problem::Problem;
use crate::releases::commands;
use crate::web::extract::Path;
use crate::web::login::Operator;

/// Un-yank a release
#[utoipa::path(
    post,
    path = "/releases/{id}/unyank",
    operation_id = "unyank_release",
    tag = "releases",
    params(("id" = i64, Path, description = "Number of the release.")),
    responses(
        (status = 200, description = "Release", body = Release),
    )
)]
pub(super) async fn unyank(
    State(app): State<Shared>,
    Operator(caller): Operator,
    Path(id): Path<i64>,
) -> Result<Json<Release>, Problem> {
    Ok(Json(commands::set_yanked(&app, caller, id, false).await?))
}
