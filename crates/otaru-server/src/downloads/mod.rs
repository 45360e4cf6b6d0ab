//! Downloads: `/files/{digest}/{name}`, for devices and everybody else.
//!
//! A digest names the same bytes for ever, so whatever lies between may keep it for ever, and a link says nothing that its reader could not
//! check. The name is for people; the digest alone decides. Files that are in memory are sent from there without a copy. Nothing
//! is compressed on the way: release files are already, and a device counts on the ranges of the file itself.

mod conditions;
mod range;

use axum::Router;
use axum::body::Body;
use axum::extract::{FromRef, Path, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use bytes::Bytes;
use otaru_format::digest::Digest;
use prometheus_client::metrics::counter::Counter;

use crate::app::Shared;
use crate::artifacts::{ArtifactError, Artifacts, Content, Location};
use crate::db::{Db, DbError};
use crate::problem::Problem;
use crate::releases::rows::has_file;
use conditions::Verdict;
use range::RequestedRange;

/// For a year, which is as good as for ever (RFC 9111, section 1.2.2), and never asked for again (RFC 8246).
const FOR_EVER: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");
const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");
const BYTES: HeaderValue = HeaderValue::from_static("bytes");

/// Parts of a server that downloads need. Cheap to clone.
#[derive(Clone)]
pub struct Downloads {
    artifacts: Artifacts,
    /// The database, which knows what files there are; `None` where all that is in the store is.
    db: Option<Db>,
    /// Bytes of answers that were begun.
    sent: Counter,
}

impl Downloads {
    /// Files of this store; `sent` counts their bytes.
    pub fn new(artifacts: Artifacts, sent: Counter) -> Self {
        Self { artifacts, db: None, sent }
    }

    /// Files that this database knows, and no others.
    #[must_use]
    pub fn known_to(self, db: Db) -> Self {
        Self { db: Some(db), ..self }
    }

    /// Whether a file is known. Whoever makes up names of files is not to have a bucket asked for them, which costs money.
    async fn knows(&self, digest: Digest) -> Result<bool, DbError> {
        match &self.db {
            Some(db) if !self.artifacts.is_near(digest) => db.read(move |tx| has_file(tx, digest)).await,
            _ => Ok(true),
        }
    }
}

impl FromRef<Shared> for Downloads {
    fn from_ref(app: &Shared) -> Self {
        Self::new(app.artifacts.clone(), app.metrics.downloaded.clone()).known_to(app.db.clone())
    }
}

/// The routes.
pub fn router<S>() -> Router<S>
where
    S: Clone + Send + Sync + 'static,
    Downloads: FromRef<S>,
{
    Router::new().route("/files/{digest}/{name}", get(download))
}

async fn download(
    State(downloads): State<Downloads>,
    Path((digest, _name)): Path<(String, String)>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let digest = parse(&digest).ok_or_else(|| Problem::not_found("such file"))?;
    if !downloads.knows(digest).await? {
        return Err(ArtifactError::Missing(digest).into());
    }
    let Downloads { artifacts, sent, .. } = downloads;
    if let Location::Redirect(url) = artifacts.location(digest, &method).await? {
        return redirect(&url);
    }
    let content = artifacts.open_file(digest).await?;
    let count = |len: u64| if method == Method::GET { sent.inc_by(len) } else { 0 };
    let tag = tag(digest);
    match conditions::judge(&method, &headers, &tag) {
        Verdict::Unchanged => Ok(about(StatusCode::NOT_MODIFIED, tag)),
        Verdict::Failed => {
            // Of this request, not of the file: others may not get it from a proxy.
            let mut answer = about(StatusCode::PRECONDITION_FAILED, tag);
            answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            Ok(answer)
        }
        Verdict::Send { range } => {
            match range.map_or(RequestedRange::Whole, |r| range::wanted(r, content.len())) {
                RequestedRange::Whole => {
                    let len = content.len();
                    count(len);
                    file(&artifacts, digest, content, 0..len, about(StatusCode::OK, tag)).await
                }
                RequestedRange::Part(part) => {
                    let mut answer = about(StatusCode::PARTIAL_CONTENT, tag);
                    let place = format!("bytes {}-{}/{}", part.start, part.end - 1, content.len());
                    answer.headers_mut().insert(header::CONTENT_RANGE, text(&place)?);
                    count(part.end - part.start);
                    file(&artifacts, digest, content, part, answer).await
                }
                RequestedRange::Nothing => unsatisfiable(content.len()),
            }
        }
    }
}

/// Only lower case, so that a file has one URL.
fn parse(digest: &str) -> Option<Digest> {
    digest.parse().ok().filter(|_| !digest.bytes().any(|byte| byte.is_ascii_uppercase()))
}

fn tag(digest: Digest) -> HeaderValue {
    let tag = Bytes::from(format!("\"{digest}\""));
    HeaderValue::from_maybe_shared(tag).unwrap_or_else(|_| unreachable!("hexadecimal digits"))
}

fn text(value: &str) -> Result<HeaderValue, Problem> {
    HeaderValue::from_str(value).map_err(|error| Problem::internal(&error))
}

/// An answer with what is known of the file, still without bytes.
fn about(status: StatusCode, tag: HeaderValue) -> Response {
    let mut answer = status.into_response();
    let headers = answer.headers_mut();
    headers.insert(header::ETAG, tag);
    headers.insert(header::CACHE_CONTROL, FOR_EVER);
    headers.insert(header::ACCEPT_RANGES, BYTES);
    answer
}

/// Puts a part of the file into an answer. For HEAD, axum takes the bytes away again.
async fn file(
    artifacts: &Artifacts,
    digest: Digest,
    content: Content,
    part: std::ops::Range<u64>,
    mut answer: Response,
) -> Result<Response, Problem> {
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, OCTETS);
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(part.end - part.start));
    *answer.body_mut() = match content {
        // It is in memory, so these numbers fit.
        Content::Whole(bytes) => Body::from(bytes.slice(part.start as usize..part.end as usize)),
        Content::OnDisk(_) if part.is_empty() => Body::empty(),
        Content::OnDisk(_) => Body::from_stream(artifacts.read(digest, part).await?),
    };
    Ok(answer)
}

fn unsatisfiable(len: u64) -> Result<Response, Problem> {
    let detail = format!("the file has {len} bytes, and the range lies behind them");
    let problem = Problem::new(StatusCode::RANGE_NOT_SATISFIABLE, "range-not-satisfiable", detail);
    let mut answer = problem.into_response();
    answer.headers_mut().insert(header::CONTENT_RANGE, text(&format!("bytes */{len}"))?);
    Ok(answer)
}

fn redirect(url: &str) -> Result<Response, Problem> {
    // Not for ever: such URLs run out.
    let headers =
        [(header::LOCATION, text(url)?), (header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    Ok((StatusCode::TEMPORARY_REDIRECT, headers).into_response())
}

#[cfg(test)]
mod tests;
