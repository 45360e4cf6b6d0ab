//! `POST /rollouts/{id}/resume`.

use axum::Json;
use axum::extract::State;
use otaru_api::Rollout;
use otaru_rollout::Control;

use crate::app::Shared;
use crate::problem::Problem;
use crate::rollouts::commands;
use crate::web::extract::Path;
use crate::web::login::Operator;

/// Resume a rollout after a pause or a stop
#[utoipa::path(post, path = "/rollouts/{id}/resume", tag = "rollouts", operation_id = "resume_rollout",
    params(("id" = u64, Path, description = "Id of the rollout.")), responses((status = 200, body = Rollout)))]
pub(super) async fn resume(
    State(app): State<Shared>,
    Operator(caller): Operator,
    Path(id): Path<u64>,
) -> Result<Json<Rollout>, Problem> {
    Ok(Json(commands::control(&app, caller, id, Control::Resume).await?.into()))
}
