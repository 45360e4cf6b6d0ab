//! `/audit`: who did what.

use axum::Json;
use axum::extract::State;
use otaru_api::{AuditEntry, AuditQuery, Page};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::access::audit::{self, Filter};
use crate::app::Shared;
use crate::page::PageQuery;
use crate::problem::Problem;
use crate::web::extract::Query;
use crate::web::login::Operator;

/// The routes.
pub fn router() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(list))
}

/// List the audit log, newest first
#[utoipa::path(get, path = "/audit", tag = "audit", params(AuditQuery, PageQuery), responses((status = 200, body = Page<AuditEntry>)))]
async fn list(
    State(app): State<Shared>,
    _: Operator,
    Query(of): Query<AuditQuery>,
    Query(wanted): Query<PageQuery>,
) -> Result<Json<Page<AuditEntry>>, Problem> {
    let (limit, before) = (wanted.limit()?, wanted.after()?);
    let filter = Filter { actor: of.actor, action: of.action, object: of.object };
    Ok(Json(app.db.read(move |tx| audit::list(tx, &filter, before, limit)).await?))
}
