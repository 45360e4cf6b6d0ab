//! Notes of every request: an id, a line in the log, and a place in the metrics.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, Method};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use tracing::Instrument as _;

use crate::http::Peer;
use crate::metrics::{self, Metrics};

/// Gives every request an id, a line in the log, and a place in the metrics.
pub(crate) fn with_notes(router: Router, metrics: Arc<Metrics>) -> Router {
    router.layer(from_fn_with_state(metrics, note))
}

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

async fn note(
    State(metrics): State<Arc<Metrics>>,
    request: Request,
    next: Next,
) -> Result<Response, Infallible> {
    let began = Instant::now();
    let peer = request.extensions().get::<Peer>().map(|peer| peer.0);
    let id = format!("{:016x}", rand::random::<u64>());
    let method = known(request.method()).to_owned();
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let route = route.unwrap_or_else(|| "none".to_owned());
    let span = tracing::info_span!("request", %id);
    let mut response = next.run(request).instrument(span.clone()).await;
    let (status, took) = (response.status().as_u16(), began.elapsed());
    span.in_scope(|| tracing::debug!(?peer, %method, %route, status, ?took, "answered"));
    metrics.answered(metrics::Request { method, route, status }, took);
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    Ok(response)
}

/// A method's name, of the few that anything here answers to: anybody can make up others, and each would be counted, and kept, by
/// itself.
fn known(method: &Method) -> &str {
    match *method {
        Method::GET
        | Method::HEAD
        | Method::POST
        | Method::PATCH
        | Method::PUT
        | Method::DELETE
        | Method::OPTIONS => method.as_str(),
        _ => "other",
    }
}
