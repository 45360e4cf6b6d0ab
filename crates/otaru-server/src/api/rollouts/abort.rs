//! `POST /rollouts/{id}/abort`.

use axum::Json;
use axum::extract::State;
use otaru_api::Rollout;
use otaru_rollout::Control;
use serde::Deserialize;

use crate::app::Shared;
use crate::problem::Problem;
use crate::rollouts::commands;
use crate::web::extract::{Path, Query};
use crate::web::login::Operator;

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Abort {
    /// Whether to cancel updates under way, where devices still can
    #[serde(default)]
    cancel: bool,
}

/// Abort a rollout
#[utoipa::path(post, path = "/rollouts/{id}/abort", tag = "rollouts", operation_id = "abort_rollout",
    params(("id" = u64, Path), Abort), responses((status = 200, body = Rollout)))]
pub(super) async fn abort(
    State(app): State<Shared>,
    Operator(caller): Operator,
    Path(id): Path<u64>,
    Query(Abort { cancel }): Query<Abort>,
) -> Result<Json<Rollout>, Problem> {
    Ok(Json(commands::control(&app, caller, id, Control::Abort { cancel }).await?.into()))
}
