//! Errors that people and programs see: problem details (RFC 9457).

use std::ops::{Deref, DerefMut};

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

/// An error that a caller can act on, and when to try again.
#[derive(Debug, Clone)]
pub struct Problem {
    details: otaru_api::Problem,
    /// Seconds after which to try again.
    retry_after: Option<u32>,
}

impl Problem {
    /// Makes a problem of this kind, a few words with dashes between.
    pub fn new(status: StatusCode, kind: &str, detail: impl Into<String>) -> Self {
        Self { details: otaru_api::Problem::new(status.as_u16(), kind, detail), retry_after: None }
    }

    /// Returns the details, as they are sent.
    pub fn into_details(self) -> otaru_api::Problem {
        self.details
    }

    /// Adds the header `Retry-After`, in seconds.
    #[must_use]
    pub fn retry_after(self, seconds: u32) -> Self {
        Self { retry_after: Some(seconds), ..self }
    }

    /// There is no such thing.
    pub fn not_found(what: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", format!("there is no {what}"))
    }

    /// The request makes no sense.
    pub fn invalid(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", detail)
    }

    /// It makes sense, but not now.
    pub fn conflict(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", detail)
    }

    /// No token was given, or something else in its place.
    pub fn unauthorized() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "unauthorized",
            "give a valid API token: `Authorization: Bearer TOKEN`",
        )
    }

    /// The credentials that were given are not good, or no longer: `why` says what is known of them.
    pub fn bad_token(why: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", why.to_string())
    }

    /// The token's role is too weak.
    pub fn forbidden(needed: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", format!("this needs a token with the role {needed}"))
    }

    /// Something failed that the caller has no part in. The reason goes to the log only.
    pub fn internal(error: &dyn std::fmt::Display) -> Self {
        tracing::error!(%error, "a request failed");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "the server failed to do this; its log says why",
        )
    }
}

impl Deref for Problem {
    type Target = otaru_api::Problem;

    fn deref(&self) -> &otaru_api::Problem {
        &self.details
    }
}

impl DerefMut for Problem {
    fn deref_mut(&mut self) -> &mut otaru_api::Problem {
        &mut self.details
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let retry_after = self.retry_after;
        let mut response = (status, Json(self.details)).into_response();
        let headers = response.headers_mut();
        if let Some(seconds) = retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"otaru\""));
        }
        response
    }
}
