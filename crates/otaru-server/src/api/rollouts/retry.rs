//! `POST /rollouts/{id}/deployments/{device}/retry`.

use axum::Json;
use axum::extract::State;
use otaru_api::{RetryDeployment, Rollout};
use otaru_rollout::DeviceId;

use crate::app::Shared;
use crate::problem::Problem;
use crate::rollouts::commands;
use crate::web::extract::{Body, Path};
use crate::web::login::Operator;

/// Retry a device whose update failed, with all its attempts
#[utoipa::path(post, path = "/rollouts/{id}/deployments/{device}/retry", tag = "rollouts",
    params(("id" = u64, Path, description = "Id of the rollout."), ("device" = String, Path, description = "Id of the device.")), request_body = RetryDeployment,
    responses((status = 200, body = Rollout)))]
pub(super) async fn retry(
    State(app): State<Shared>,
    Operator(caller): Operator,
    Path((id, device)): Path<(u64, String)>,
    Body(RetryDeployment { force }): Body<RetryDeployment>,
) -> Result<Json<Rollout>, Problem> {
    Ok(Json(commands::retry(&app, caller, id, DeviceId::from(device.as_str()), force).await?.into()))
}
