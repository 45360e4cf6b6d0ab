//! Every route of the site.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;

use super::mount;
use crate::app::Shared;
use crate::problem::Problem;
use crate::web::notes::with_notes;
use crate::{address, api, dashboard, downloads};

/// Every route there is.
pub(super) fn router(app: Shared) -> Router {
    let rest = Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .with_state(app.clone())
        .merge(api::router(app.clone()))
        .merge(dashboard::router(app.clone()))
        .fallback(not_found);
    // Downloads are not noted one by one: a device fetches a file in many ranges.
    let site = with_notes(rest, Arc::clone(&app.metrics)).merge(downloads::router().with_state(app.clone()));
    mount::under(address::path(&app.public_base), site)
}

/// Answers a request for what is nowhere: a page for people, and a problem for programs.
async fn not_found(request: axum::extract::Request) -> Response {
    let accept = request.headers().get(axum::http::header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let people = accept.is_some_and(|accept| accept.contains("text/html"));
    if people && !request.uri().path().starts_with("/api/") {
        dashboard::not_found()
    } else {
        api::not_found().await
    }
}

/// Whether it can do its work.
async fn ready(State(app): State<Shared>) -> Response {
    match app.readiness.ask().await {
        Ok(()) => "ready\n".into_response(),
        Err(why) => Problem::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", why).into_response(),
    }
}
