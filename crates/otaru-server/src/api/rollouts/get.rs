//! `GET /rollouts/{id}`.

use axum::Json;
use axum::extract::State;
use otaru_api::Rollout;
use otaru_rollout::RolloutId;

use crate::app::Shared;
use crate::caller::Caller;
use crate::problem::Problem;
use crate::rollouts::view::RolloutView;
use crate::web::extract::Path;

/// Get a rollout
#[utoipa::path(get, path = "/rollouts/{id}", tag = "rollouts", operation_id = "get_rollout",
    params(("id" = u64, Path, description = "Id of the rollout.")), responses((status = 200, body = Rollout)))]
pub(super) async fn get(
    State(app): State<Shared>,
    _caller: Caller,
    Path(id): Path<u64>,
) -> Result<Json<Rollout>, Problem> {
    Ok(Json(app.db.read(move |tx| RolloutView::read(tx, RolloutId(id))).await?.into()))
}
