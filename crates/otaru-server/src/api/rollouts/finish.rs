//! `POST /rollouts/{id}/finish`.

use axum::Json;
use axum::extract::State;
use otaru_api::Rollout;
use otaru_rollout::Control;

use crate::app::Shared;
use crate::problem::Problem;
use crate::rollouts::commands;
use crate::web::extract::Path;
use crate::web::login::Operator;

/// Finish a rollout: start no more devices, and complete when updates under way have ended
#[utoipa::path(post, path = "/rollouts/{id}/finish", tag = "rollouts", operation_id = "finish_rollout",
    params(("id" = u64, Path, description = "Id of the rollout.")), responses((status = 200, body = Rollout)))]
pub(super) async fn finish(
    State(app): State<Shared>,
    Operator(caller): Operator,
    Path(id): Path<u64>,
) -> Result<Json<Rollout>, Problem> {
    Ok(Json(commands::control(&app, caller, id, Control::Finish).await?.into()))
}
