//! `POST /releases/{id}/build`.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use otaru_api::{BuildQuery, Job};

use crate::app::Shared;
use crate::problem::Problem;
use crate::releases::commands;
use crate::web::extract::{Path, Query};
use crate::web::login::Operator;

/// Rebuild the release file, with patches from the images that devices run now
///
/// A job in the background does the work.
#[utoipa::path(
    post,
    path = "/releases/{id}/build",
    operation_id = "build_release",
    tag = "releases",
    params(("id" = i64, Path, description = "Number of the release."), BuildQuery),
    responses(
        (status = 202, description = "Queued job", body = Job),
    )
)]
pub(super) async fn build(
    State(app): State<Shared>,
    Operator(caller): Operator,
    Path(id): Path<i64>,
    Query(query): Query<BuildQuery>,
) -> Result<(StatusCode, Json<Job>), Problem> {
    Ok((StatusCode::ACCEPTED, Json(commands::ask_for_build(&app, caller, id, query.replace).await?.into())))
}
