//! If-Range (RFC 9110 section 13.1.5), which the file service does not know: a range of a file that has
//! changed meanwhile is answered with the whole file.

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::Response;

/// Drops `Range` from a request whose `If-Range` is not what the file has now.
pub(super) async fn honour(mut request: Request, next: Next) -> Response {
    if let Some(wanted) = request.headers_mut().remove(header::IF_RANGE)
        && request.headers().contains_key(header::RANGE)
    {
        let mut question = Request::new(Body::empty());
        *question.method_mut() = Method::HEAD;
        *question.uri_mut() = request.uri().clone();
        let now = next.clone().run(question).await;
        if !unchanged(&wanted, now.headers()) {
            request.headers_mut().remove(header::RANGE);
        }
    }
    next.run(request).await
}

/// Strong comparison: the whole validator, byte for byte, and never a weak tag.
fn unchanged(wanted: &HeaderValue, now: &HeaderMap) -> bool {
    let name = match wanted.as_bytes() {
        [b'W', b'/', ..] => return false,
        [b'"', ..] => header::ETAG,
        _ => header::LAST_MODIFIED,
    };
    now.get(name) == Some(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_strong_validator_counts() {
        let mut now = HeaderMap::new();
        now.insert(header::ETAG, HeaderValue::from_static("\"a\""));
        now.insert(header::LAST_MODIFIED, HeaderValue::from_static("Tue, 01 Jan 2030 00:00:00 GMT"));
        for (wanted, same) in [
            ("\"a\"", true),
            ("\"b\"", false),
            ("W/\"a\"", false),
            ("Tue, 01 Jan 2030 00:00:00 GMT", true),
            ("Tue, 01 Jan 2030 00:00:01 GMT", false),
        ] {
            assert_eq!(unchanged(&HeaderValue::from_static(wanted), &now), same, "{wanted}");
        }
    }
}
