//! `POST /rollouts/{id}/advance`.

use axum::Json;
use axum::extract::State;
use otaru_api::Rollout;
use otaru_rollout::Control;

use crate::app::Shared;
use crate::problem::Problem;
use crate::rollouts::commands;
use crate::web::extract::Path;
use crate::web::login::Operator;

/// Open the next wave of a rollout now
#[utoipa::path(post, path = "/rollouts/{id}/advance", tag = "rollouts", operation_id = "advance_rollout",
    params(("id" = u64, Path, description = "Id of the rollout.")), responses((status = 200, body = Rollout)))]
pub(super) async fn advance(
    State(app): State<Shared>,
    Operator(caller): Operator,
    Path(id): Path<u64>,
) -> Result<Json<Rollout>, Problem> {
    Ok(Json(commands::control(&app, caller, id, Control::Advance).await?.into()))
}
