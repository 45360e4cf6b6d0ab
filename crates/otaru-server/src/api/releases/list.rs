//! `GET /releases`.

use axum::Json;
use axum::extract::State;
use otaru_api::{Cursor, Page, Release, ReleaseQuery};

use crate::app::Shared;
use crate::caller::Caller;
use crate::db::{Connection, DbError};
use crate::page::PageQuery;
use crate::problem::Problem;
use crate::releases::{Filter, rows};
use crate::web::extract::Query;

/// List releases
#[utoipa::path(
    get,
    path = "/releases",
    tag = "releases",
    operation_id = "list_releases",
    params(ReleaseQuery, PageQuery),
    responses(
        (status = 200, description = "Page of releases, newest first", body = Page<Release>),
    )
)]
pub(super) async fn list(
    State(app): State<Shared>,
    _caller: Caller,
    Query(query): Query<ReleaseQuery>,
    Query(wanted): Query<PageQuery>,
) -> Result<Json<Page<Release>>, Problem> {
    let (before, limit) = (wanted.after::<i64>()?, wanted.limit()?);
    let filter =
        Filter { product: query.product, chip: query.chip, version: query.version, yanked: query.yanked };
    let read = move |tx: &Connection| {
        let total = rows::count(tx, &filter)?;
        let items = rows::list(tx, &filter, before, limit + 1)?;
        Ok::<_, DbError>(Page::cut(items, limit, |release| Cursor::of(&release.id)).with_total(total))
    };
    Ok(Json(app.db.read(read).await?))
}
