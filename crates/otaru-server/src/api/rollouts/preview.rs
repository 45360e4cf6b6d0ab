//! `POST /rollouts/preview`.

use axum::Json;
use axum::extract::State;
use otaru_api::{NewRollout, Preview, PreviewQuery};

use crate::app::Shared;
use crate::problem::Problem;
use crate::rollouts::commands;
use crate::web::extract::{Body, Query};
use crate::web::login::Operator;

/// Preview the devices that a rollout would reach
#[utoipa::path(post, path = "/rollouts/preview", tag = "rollouts", params(PreviewQuery), request_body = NewRollout,
    responses((status = 200, body = Preview)))]
pub(super) async fn preview(
    State(app): State<Shared>,
    _: Operator,
    Query(query): Query<PreviewQuery>,
    Body(new): Body<NewRollout>,
) -> Result<Json<Preview>, Problem> {
    Ok(Json(commands::preview(&app, new, query.enough).await?))
}
