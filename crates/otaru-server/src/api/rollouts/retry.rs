//! `POST /rollouts/{id}/deployments/{device}/retry`.

use axum::Json;
use axum::extract::State;
use otaru_rollout::DeviceId;
use serde::{Deserialize, Serialize};

use crate::app::Shared;
use crate::problem::Problem;
use crate::rollouts::commands;
use crate::rollouts::view::RolloutView;
use crate::web::extract::{Body, Path};
use crate::web::login::Operator;

#[derive(Debug, Default, Deserialize, Serialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Retry {
    /// Also on a device that has rolled this image back: signed with a higher sequence, or, without a signature, offered with
    /// `force`
    force: bool,
}

/// Give a device that failed all its attempts anew
#[utoipa::path(post, path = "/rollouts/{id}/deployments/{device}/retry", tag = "rollouts",
    params(("id" = u64, Path), ("device" = String, Path)), request_body = Retry,
    responses((status = 200, body = RolloutView)))]
pub(super) async fn retry(
    State(app): State<Shared>,
    Operator(caller): Operator,
    Path((id, device)): Path<(u64, String)>,
    Body(Retry { force }): Body<Retry>,
) -> Result<Json<RolloutView>, Problem> {
    Ok(Json(commands::retry(&app, caller, id, DeviceId::from(device.as_str()), force).await?))
}
