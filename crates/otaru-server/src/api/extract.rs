//! What requests bring, with problems where axum has plain texts.

use std::time::Duration;

use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderName, StatusCode};
use otaru_format::digest::Digest;
use serde::de::DeserializeOwned;

use super::problem::Problem;
use crate::app::Shared;

/// How long a JSON body may take, so that nobody holds connections by sending one slowly.
pub(crate) const SLOWEST_BODY: Duration = Duration::from_secs(15);

/// A JSON body.
#[derive(Debug)]
pub struct Body<T>(pub T);

impl<T: DeserializeOwned> FromRequest<Shared> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &Shared) -> Result<Self, Problem> {
        match tokio::time::timeout(SLOWEST_BODY, axum::Json::from_request(request, app)).await {
            Ok(Ok(axum::Json(body))) => Ok(Self(body)),
            Ok(Err(rejection)) => Err(bad_body(&rejection)),
            Err(_) => Err(Problem::new(
                StatusCode::REQUEST_TIMEOUT,
                "timeout",
                format!("the body was not complete after {} seconds", SLOWEST_BODY.as_secs()),
            )),
        }
    }
}

fn bad_body(rejection: &JsonRejection) -> Problem {
    match rejection {
        JsonRejection::MissingJsonContentType(_) => Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported-media-type",
            "send JSON, with `Content-Type: application/json`",
        ),
        JsonRejection::JsonSyntaxError(error) => {
            Problem::new(StatusCode::BAD_REQUEST, "bad-json", error.body_text())
        }
        JsonRejection::JsonDataError(error) => Problem::invalid(error.body_text()),
        other if other.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "the body is too long")
        }
        other => Problem::new(StatusCode::BAD_REQUEST, "bad-request", other.body_text()),
    }
}

/// The parameters in the query.
#[derive(Debug)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned> FromRequestParts<Shared> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, Problem> {
        let query = axum::extract::Query::from_request_parts(parts, app).await;
        query
            .map(|axum::extract::Query(query)| Self(query))
            .map_err(|rejection: QueryRejection| Problem::invalid(rejection.body_text()))
    }
}

/// The parameters in the path.
#[derive(Debug)]
pub struct Path<T>(pub T);

impl<T: DeserializeOwned + Send> FromRequestParts<Shared> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, Problem> {
        let path = axum::extract::Path::from_request_parts(parts, app).await;
        path.map(|axum::extract::Path(path)| Self(path))
            .map_err(|_: PathRejection| Problem::not_found(format_args!("such thing: {}", parts.uri.path())))
    }
}

/// Header of [`IdempotencyKey`].
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Bytes of the longest key.
const LONGEST_KEY: usize = 128;

/// What a caller calls a request by that makes something, so that it may be sent again without making it twice: header
/// `Idempotency-Key`, kept for a day.
#[derive(Debug, Clone)]
pub struct IdempotencyKey(pub Option<String>);

impl FromRequestParts<Shared> for IdempotencyKey {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Shared) -> Result<Self, Problem> {
        let Some(value) = parts.headers.get(IDEMPOTENCY_KEY) else { return Ok(Self(None)) };
        match value.to_str() {
            Ok(text) if (1..=LONGEST_KEY).contains(&text.len()) => Ok(Self(Some(text.to_owned()))),
            _ => Err(Problem::new(
                StatusCode::BAD_REQUEST,
                "bad-idempotency-key",
                format!("`Idempotency-Key` has 1 to {LONGEST_KEY} printable ASCII characters"),
            )),
        }
    }
}

/// A SHA-256 in hex, from a path or a query.
///
/// # Errors
/// When it is none.
pub fn digest(text: &str) -> Result<Digest, Problem> {
    text.parse().map_err(|_| Problem::invalid("a digest is a SHA-256: 64 hexadecimal digits"))
}
