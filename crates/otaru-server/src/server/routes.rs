//! Every route of the site.

use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;

use super::mount;
use crate::app::Shared;
use crate::problem::Problem;
use crate::web::notes::with_notes;
use crate::{address, api, dashboard, downloads};

/// Every route there is. `authority` is the file of the certificate that others are to trust, where the server made its own.
pub(super) fn router(app: Shared, authority: Option<PathBuf>) -> Router {
    let rest = Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .with_state(app.clone())
        .merge(authority.map_or_else(Router::new, authority_route))
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

/// The certificate that others are to trust. It is no secret; whoever fetches it in clear holds its fingerprint against the one that the
/// server printed.
fn authority_route(file: PathBuf) -> Router {
    let answer = async move || match tokio::fs::read(&file).await {
        Ok(text) => ([(header::CONTENT_TYPE, "application/x-pem-file")], text).into_response(),
        Err(error) => {
            tracing::error!(file = %file.display(), %error, "the certificate of the server's own authority cannot be read");
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the file cannot be read")
                .into_response()
        }
    };
    Router::new().route("/ca.pem", get(answer))
}

/// Whether it can do its work.
async fn ready(State(app): State<Shared>) -> Response {
    match app.readiness.ask().await {
        Ok(()) => "ready\n".into_response(),
        Err(why) => Problem::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", why).into_response(),
    }
}
