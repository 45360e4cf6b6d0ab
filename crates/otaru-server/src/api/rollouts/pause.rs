//! `POST /rollouts/{id}/pause`.

use axum::Json;
use axum::extract::State;
use otaru_api::Rollout;
use otaru_rollout::Control;

use crate::app::Shared;
use crate::problem::Problem;
use crate::rollouts::commands;
use crate::web::extract::Path;
use crate::web::login::Operator;

/// Pause a rollout: start no more devices until it is resumed
///
/// Updates under way run to their end.
#[utoipa::path(post, path = "/rollouts/{id}/pause", tag = "rollouts", operation_id = "pause_rollout",
    params(("id" = u64, Path, description = "Id of the rollout.")), responses((status = 200, body = Rollout)))]
pub(super) async fn pause(
    State(app): State<Shared>,
    Operator(caller): Operator,
    Path(id): Path<u64>,
) -> Result<Json<Rollout>, Problem> {
    Ok(Json(commands::control(&app, caller, id, Control::Pause).await?.into()))
}
