//! `POST /rollouts/{id}/widen`.

use axum::Json;
use axum::extract::State;
use otaru_rollout::{Control, Percent};
use serde::Deserialize;

use crate::app::Shared;
use crate::problem::Problem;
use crate::rollouts::commands;
use crate::rollouts::view::RolloutView;
use crate::web::extract::{Body, Path};
use crate::web::login::Operator;

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Widen {
    /// Per cent of the target, more than before
    #[schema(value_type = f64, minimum = 0, maximum = 100)]
    percent: Percent,
}

/// Take a larger share of the target
#[utoipa::path(post, path = "/rollouts/{id}/widen", tag = "rollouts", operation_id = "widen_rollout",
    params(("id" = u64, Path)), request_body = Widen, responses((status = 200, body = RolloutView)))]
pub(super) async fn widen(
    State(app): State<Shared>,
    Operator(caller): Operator,
    Path(id): Path<u64>,
    Body(Widen { percent }): Body<Widen>,
) -> Result<Json<RolloutView>, Problem> {
    Ok(Json(commands::control(&app, caller, id, Control::Widen(percent)).await?))
}
