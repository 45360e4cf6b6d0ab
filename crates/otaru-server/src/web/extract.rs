//! Extractors of what requests bring, with problems where axum has plain texts.

use std::time::Duration;

use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderName, StatusCode};
use serde::de::DeserializeOwned;

use crate::app::Shared;
use crate::problem::Problem;

/// Longest time for a JSON body to arrive, so that nobody holds connections by sending one slowly.
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
        JsonRejection::JsonSyntaxError(error) => Problem::new(
            StatusCode::BAD_REQUEST,
            "bad-json",
            format!("this is no JSON: {}", plain(&error.body_text())),
        ),
        JsonRejection::JsonDataError(error) => Problem::invalid(plain(&error.body_text())),
        other if other.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "the body is too long")
        }
        other => Problem::new(StatusCode::BAD_REQUEST, "bad-request", plain(&other.body_text())),
    }
}

/// Prefixes that axum puts in front of what is wrong.
const LEADS: [&str; 3] = [
    "Failed to deserialize the JSON body into the target type: ",
    "Failed to parse the request body as JSON: ",
    "Failed to deserialize query string: ",
];

/// Tells what is wrong, and where, in words of the API: nothing of the libraries that found it.
pub(crate) fn plain(text: &str) -> String {
    let text = LEADS.iter().find_map(|lead| text.strip_prefix(lead)).unwrap_or(text);
    let text = without_place(text);
    match text.split_once(": ").filter(|(path, _)| is_path(path)) {
        Some((path, what)) => {
            let what = in_words(what);
            let colon = if what.starts_with("at character") { "" } else { ":" };
            format!("`{path}`{colon} {what}")
        }
        None => in_words(text),
    }
}

/// Leaves out the line and column in JSON that nobody wrote by hand.
fn without_place(text: &str) -> &str {
    let is_place = |place: &str| place.bytes().all(|b| b.is_ascii_digit() || b == b' ') && !place.is_empty();
    match text.rsplit_once(" at line ") {
        Some((what, place)) if is_place(&place.replacen("column", "", 1)) => what,
        _ => text,
    }
}

fn is_path(text: &str) -> bool {
    let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '[' | ']');
    !text.is_empty() && text.chars().all(known)
}

fn in_words(what: &str) -> String {
    for (kind, words) in [
        ("invalid digit found in string", "expected a whole number"),
        ("cannot parse integer from empty string", "expected a whole number"),
        ("number too large to fit in target type", "this number is too large"),
        ("invalid float literal", "expected a number"),
        ("provided string was not `true` or `false`", "expected true or false"),
    ] {
        if what == kind {
            return words.to_owned();
        }
    }
    if let Some(name) = what.strip_prefix("missing field ") {
        return format!("{name} is missing");
    }
    if let Some((given, known)) =
        what.strip_prefix("unknown variant ").and_then(|rest| rest.split_once(", expected "))
    {
        return format!("{given} is not {known}");
    }
    let given = what.strip_prefix("invalid type: ").or_else(|| what.strip_prefix("invalid value: "));
    match given.and_then(|rest| rest.rsplit_once(", expected ")) {
        Some((given, wanted)) => format!("expected {}, not {given}", kind_in_words(wanted)),
        None => what.to_owned(),
    }
}

fn kind_in_words(kind: &str) -> &str {
    match kind {
        "a boolean" => "true or false",
        "a sequence" => "a list",
        "a map" => "an object",
        _ if kind.starts_with("struct ") => "an object",
        _ if kind.starts_with("enum ") => "one of the names in the description",
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number, not below 0",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        other => other,
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
            .map_err(|rejection: QueryRejection| Problem::invalid(plain(&rejection.body_text())))
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

/// Name that a caller gives a request that makes something, so that it may be sent again without making it twice: header
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_told_of_the_libraries() {
        let json = |text: &str| plain(&format!("{}{text} at line 1 column 17", LEADS[0]));
        assert_eq!(
            json("target.tags: at character 6: expected a tag\n  site=\n       ^"),
            "`target.tags` at character 6: expected a tag\n  site=\n       ^"
        );
        assert_eq!(json("missing field `role`"), "`role` is missing");
        assert_eq!(json("waves[0].gate: missing field `auto`"), "`waves[0].gate`: `auto` is missing");
        assert_eq!(
            json("release: invalid type: string \"x, expected y\", expected i64"),
            "`release`: expected a whole number, not string \"x, expected y\""
        );
        assert_eq!(
            json("role: unknown variant `king`, expected one of `viewer`, `admin`"),
            "`role`: `king` is not one of `viewer`, `admin`"
        );
        assert_eq!(json("we met at line 3"), "we met at line 3");
        let query = |text: &str| plain(&format!("{}{text}", LEADS[2]));
        assert_eq!(query("limit: invalid digit found in string"), "`limit`: expected a whole number");
        assert_eq!(
            query("continuous: provided string was not `true` or `false`"),
            "`continuous`: expected true or false"
        );
    }
}
