//! `POST /rollouts/{id}/abort`.

use axum::Json;
use axum::extract::State;
use otaru_api::{AbortQuery, Rollout};
use otaru_rollout::Control;

use crate::app::Shared;
use crate::problem::Problem;
use crate::rollouts::commands;
use crate::web::extract::{Path, Query};
use crate::web::login::Operator;

/// Abort a rollout
#[utoipa::path(post, path = "/rollouts/{id}/abort", tag = "rollouts", operation_id = "abort_rollout",
    params(("id" = u64, Path, description = "Id of the rollout."), AbortQuery), responses((status = 200, body = Rollout)))]
pub(super) async fn abort(
    State(app): State<Shared>,
    Operator(caller): Operator,
    Path(id): Path<u64>,
    Query(AbortQuery { cancel }): Query<AbortQuery>,
) -> Result<Json<Rollout>, Problem> {
    Ok(Json(commands::control(&app, caller, id, Control::Abort { cancel }).await?.into()))
}
