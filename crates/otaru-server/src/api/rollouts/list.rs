//! `GET /rollouts`.

use axum::Json;
use axum::extract::State;
use otaru_api::{Cursor, Page, Rollout, RolloutQuery};
use otaru_rollout::Phase;

use crate::app::Shared;
use crate::caller::Caller;
use crate::db::DbError;
use crate::page::PageQuery;
use crate::problem::Problem;
use crate::rollouts::rows;
use crate::rollouts::view::RolloutView;
use crate::similar::known;
use crate::web::extract::Query;

/// List rollouts, newest first
#[utoipa::path(get, path = "/rollouts", tag = "rollouts", operation_id = "list_rollouts", params(RolloutQuery, PageQuery),
    responses((status = 200, body = Page<Rollout>)))]
pub(super) async fn list(
    State(app): State<Shared>,
    _caller: Caller,
    Query(of): Query<RolloutQuery>,
    Query(wanted): Query<PageQuery>,
) -> Result<Json<Page<Rollout>>, Problem> {
    let (limit, before) = (wanted.limit()?, wanted.after()?);
    let phase = known("phase", of.phase, Phase::ALL.map(Phase::as_str))?;
    let page = app.db.read(move |tx| {
        let found = rows::list(tx, phase.as_deref(), before, limit + 1)?;
        let views = found
            .into_iter()
            .map(|kept| RolloutView::of(tx, kept).map(Rollout::from))
            .collect::<Result<Vec<_>, _>>()?;
        Ok::<_, DbError>(Page::cut(views, limit, |last| Cursor::of(&last.id)))
    });
    Ok(Json(page.await?))
}
