//! `POST /rollouts/{id}/widen`.

use axum::Json;
use axum::extract::State;
use otaru_api::{Rollout, WidenRollout};
use otaru_rollout::Control;

use crate::app::Shared;
use crate::problem::Problem;
use crate::rollouts::commands;
use crate::web::extract::{Body, Path};
use crate::web::login::Operator;

/// Extend a rollout to a larger share of its target
#[utoipa::path(post, path = "/rollouts/{id}/widen", tag = "rollouts", operation_id = "widen_rollout",
    params(("id" = u64, Path, description = "Id of the rollout.")), request_body = WidenRollout, responses((status = 200, body = Rollout)))]
pub(super) async fn widen(
    State(app): State<Shared>,
    Operator(caller): Operator,
    Path(id): Path<u64>,
    Body(WidenRollout { percent }): Body<WidenRollout>,
) -> Result<Json<Rollout>, Problem> {
    Ok(Json(commands::control(&app, caller, id, Control::Widen(percent)).await?.into()))
}
