//! `GET /rollouts/{id}/deployments`.

use axum::Json;
use axum::extract::State;
use otaru_api::{Deployment, DeploymentQuery, Page};
use otaru_rollout::RolloutId;

use crate::app::Shared;
use crate::caller::Caller;
use crate::devices::query::codes;
use crate::page::PageQuery;
use crate::problem::Problem;
use crate::rollouts::deployments::{self, standings};
use crate::rollouts::rows;
use crate::similar::known;
use crate::web::extract::{Path, Query};

/// List the deployments of a rollout, in the order of their device ids
#[utoipa::path(get, path = "/rollouts/{id}/deployments", tag = "rollouts", params(("id" = u64, Path, description = "Id of the rollout."), DeploymentQuery, PageQuery),
    responses((status = 200, body = Page<Deployment>)))]
pub(super) async fn list_deployments(
    State(app): State<Shared>,
    _caller: Caller,
    Path(id): Path<u64>,
    Query(those): Query<DeploymentQuery>,
    Query(wanted): Query<PageQuery>,
) -> Result<Json<Page<Deployment>>, Problem> {
    let (limit, after, id) = (wanted.limit()?, wanted.after::<String>()?, RolloutId(id));
    let standing = known("standing", those.standing, standings())?;
    let error = known("error", those.error, codes())?;
    let page = app.db.read(move |tx| {
        rows::get(tx, id)?.ok_or_else(|| Problem::not_found(format_args!("rollout {}", id.0)))?;
        let (standing, error) = (standing.as_deref(), error.as_deref());
        Ok::<_, Problem>(deployments::list(tx, id, standing, error, after.as_deref(), limit)?)
    });
    Ok(Json(page.await?))
}
