//! `POST /releases/{id}/yank`.

use axum::Json;
use axum::extract::State;
use otaru_api::Release;

use crate::app::Shared;
use crate::problem::Problem;
use crate::releases::commands;
use crate::web::extract::Path;
use crate::web::login::Operator;

/// Yank a release
///
/// It is no longer offered to devices, and no rollout can start with it. Devices that run it keep running it; its files stay, so that
/// downloads under way can finish.
#[utoipa::path(
    post,
    path = "/releases/{id}/yank",
    operation_id = "yank_release",
    tag = "releases",
    params(("id" = i64, Path, description = "Number of the release.")),
    responses(
        (status = 200, description = "Release", body = Release),
    )
)]
pub(super) async fn yank(
    State(app): State<Shared>,
    Operator(caller): Operator,
    Path(id): Path<i64>,
) -> Result<Json<Release>, Problem> {
    Ok(Json(commands::set_yanked(&app, caller, id, true).await?))
}
