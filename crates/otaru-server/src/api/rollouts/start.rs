//! `POST /rollouts/{id}/start`.

use axum::Json;
use axum::extract::State;
use otaru_api::Rollout;
use otaru_rollout::Control;

use crate::app::Shared;
use crate::problem::Problem;
use crate::rollouts::commands;
use crate::web::extract::Path;
use crate::web::login::Operator;

/// Start a rollout that is a draft
#[utoipa::path(post, path = "/rollouts/{id}/start", tag = "rollouts", operation_id = "start_rollout",
    params(("id" = u64, Path, description = "Id of the rollout.")), responses((status = 200, body = Rollout)))]
pub(super) async fn start(
    State(app): State<Shared>,
    Operator(caller): Operator,
    Path(id): Path<u64>,
) -> Result<Json<Rollout>, Problem> {
    Ok(Json(commands::control(&app, caller, id, Control::Start).await?.into()))
}
