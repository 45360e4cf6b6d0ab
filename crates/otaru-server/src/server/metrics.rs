//! `/metrics`, on a listener of its own.

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;

use crate::app::Shared;
use crate::metrics::MEDIA_TYPE;
use crate::problem::Problem;

/// `/metrics`, for the listener of their own.
pub(super) fn router(app: Shared) -> axum::Router {
    axum::Router::new().route("/metrics", get(metrics)).with_state(app)
}

async fn metrics(State(app): State<Shared>) -> Result<Response, Problem> {
    let text = app.metrics.scrape(&app.db).await?;
    Ok(([(header::CONTENT_TYPE, MEDIA_TYPE)], text).into_response())
}
