//! Answer to plain HTTP at the port for HTTPS.

use axum::Router;
use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};

use crate::problem::Problem;

/// Answers everything with where to go.
pub(super) fn router() -> Router {
    Router::new().fallback(async |request: Request| answer(&request))
}

fn answer(request: &Request) -> Response {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let place = match host {
        Some(host) => format!("https://{host}{path}"),
        None => "https://".to_owned(),
    };
    let detail = format!("this port speaks HTTPS, and plain HTTP was spoken to it; use {place}");
    let mut response = Problem::new(StatusCode::BAD_REQUEST, "tls-needed", detail).into_response();
    response.headers_mut().insert(header::CONNECTION, header::HeaderValue::from_static("close"));
    response
}
