//! `POST /releases/{id}/yank`.

use axum::Json;
use axum::extract::State;
use otaru_api::Release;

use crate::app::Shared;
use crate::problem::Problem;
use crate::releases::commands;
use crate::web::extract::Path;
use crate::web::login::Operator;

/// Takes a release back
///
/// It is offered to no device any longer, and no rollout can begin with it. Devices that run it go on; its files stay, so that whoever has
/// a link can finish.
#[utoipa::path(
    post,
    path = "/releases/{id}/yank",
    operation_id = "yank_release",
    tag = "releases",
    params(("id" = i64, Path, description = "its number")),
    responses(
        (status = 200, description = "the release", body = Release),
    )
)]
pub(super) async fn yank(
    State(app): State<Shared>,
    Operator(caller): Operator,
    Path(id): Path<i64>,
) -> Result<Json<Release>, Problem> {
    Ok(Json(commands::set_yanked(&app, caller, id, true).await?))
}
