//! `GET /rollouts/{id}/events`.

use axum::Json;
use axum::extract::State;
use otaru_api::{Page, RolloutEvent};
use otaru_rollout::RolloutId;

use crate::app::Shared;
use crate::caller::Caller;
use crate::page::PageQuery;
use crate::problem::Problem;
use crate::rollouts::rows;
use crate::web::extract::{Path, Query};

/// List the events of a rollout, newest first
#[utoipa::path(get, path = "/rollouts/{id}/events", tag = "rollouts", params(("id" = u64, Path, description = "Id of the rollout."), PageQuery),
    responses((status = 200, body = Page<RolloutEvent>)))]
pub(super) async fn happened(
    State(app): State<Shared>,
    _caller: Caller,
    Path(id): Path<u64>,
    Query(wanted): Query<PageQuery>,
) -> Result<Json<Page<RolloutEvent>>, Problem> {
    let (limit, before) = (wanted.limit()?, wanted.after::<i64>()?);
    let page = app.db.read(move |tx| rows::events(tx, RolloutId(id), before, limit));
    Ok(Json(page.await?))
}
