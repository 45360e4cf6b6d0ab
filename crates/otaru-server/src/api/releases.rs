//! `/releases`: upload, list, take back, build.

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Redirect, Response};
use rusqlite::Connection;
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::caller::{Caller, Role};
use super::problem::Problem;
use crate::app::{App, Shared};
use crate::db::DbError;
use crate::downloads;
use crate::events::Event;
use crate::releases::accept::accept;
use crate::releases::rows;
use crate::releases::upload::{Announced, receive};
use crate::releases::{Filter, Job, JobKind, Release};

/// Releases on a page, unless asked otherwise.
const PAGE: u32 = 100;
/// The most on a page.
const LARGEST_PAGE: u32 = 1_000;
/// The longest notes, in bytes.
const LONGEST_NOTES: usize = 16 << 10;

/// The routes.
pub fn router() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(list, upload))
        .routes(routes!(get, change))
        .routes(routes!(yank))
        .routes(routes!(unyank))
        .routes(routes!(build))
        .routes(routes!(file))
}

/// What is uploaded: an ESP image (`.bin`), or a release file (`.otaru`).
#[derive(utoipa::ToSchema)]
#[schema(value_type = String, format = Binary)]
#[expect(dead_code, reason = "it describes a body that is taken as it comes")]
pub struct Firmware(Vec<u8>);

/// What comes with an upload.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct UploadQuery {
    /// What the file is called where it comes from: for messages.
    pub filename: Option<String>,
    /// What people should know about it.
    pub notes: Option<String>,
    /// SHA-256 of the file in hexadecimal digits, as an alternative to the header `Repr-Digest`.
    pub sha256: Option<String>,
}

/// Uploads firmware
///
/// Chip, product and version are read from the file. The same image again is the same release; an `.otaru` file and a `.bin` file of one
/// image complete each other.
#[utoipa::path(
    post,
    path = "/releases",
    tag = "releases",
    params(
        UploadQuery,
        ("Repr-Digest" = Option<String>, Header, description = "`sha-256=:BASE64:` (RFC 9530); `Content-Digest` is taken, too"),
    ),
    request_body(content = Firmware, content_type = "application/octet-stream"),
    responses(
        (status = 201, description = "a new release", body = Release),
        (status = 200, description = "the image is known already", body = Release),
        (status = 400, description = "cut off, or an unreadable digest", body = Problem),
        (status = 401, description = "no valid token", body = Problem),
        (status = 403, description = "the token's role is too weak", body = Problem),
        (status = 408, description = "too slow", body = Problem),
        (status = 409, description = "it contradicts a release that is there", body = Problem),
        (status = 413, description = "too large", body = Problem),
        (status = 415, description = "compressed for the way", body = Problem),
        (status = 422, description = "no firmware that devices would take, or not what was announced", body = Problem),
        (status = 507, description = "the disk is full", body = Problem),
    )
)]
pub async fn upload(
    State(app): State<Shared>,
    caller: Caller,
    query: Result<Query<UploadQuery>, QueryRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    caller.require(Role::Operator)?;
    let Query(query) = query?;
    check_notes(query.notes.as_deref())?;
    if headers.get(header::CONTENT_ENCODING).is_some_and(|coding| coding != "identity") {
        return Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "content-coding",
            "send the file as it is",
        ));
    }
    let announced = Announced::read(&headers, query.sha256.as_deref())?;
    let len = headers.get(header::CONTENT_LENGTH).and_then(|len| len.to_str().ok()?.parse().ok());
    let staged = receive(&app.artifacts, app.config.uploads, &announced, len, body).await?;
    let accepted = accept(&app, staged, query.notes, caller.name, |_, _| Ok(())).await;
    let registered = accepted.map_err(|error| named(error.into(), query.filename.as_deref()))?;
    let release = find(&app, registered.id).await?;
    let status = if registered.created { StatusCode::CREATED } else { StatusCode::OK };
    let place = [(header::LOCATION, format!("/api/v1/releases/{}", registered.id))];
    Ok((status, place, Json(release)).into_response())
}

/// Begins what is wrong with a file with its name.
fn named(mut problem: Problem, filename: Option<&str>) -> Problem {
    if let Some(filename) = filename {
        problem.detail = format!("{filename}: {}", problem.detail);
    }
    problem
}

/// Which releases are listed.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// Of this product.
    pub product: Option<String>,
    /// For this chip.
    pub chip: Option<String>,
    /// With this version.
    pub version: Option<String>,
    /// Taken back, or not.
    pub yanked: Option<bool>,
    /// How many at most.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    pub limit: Option<u32>,
    /// Where the page before said that the next one begins.
    pub cursor: Option<String>,
}

/// A page of releases.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Page {
    /// The releases, the newest first.
    pub items: Vec<Release>,
    /// Where the next page begins, if there is one.
    pub next: Option<String>,
    /// How many there are on all pages.
    pub total: u64,
}

/// Lists releases
#[utoipa::path(
    get,
    path = "/releases",
    tag = "releases",
    params(ListQuery),
    responses(
        (status = 200, description = "a page of releases, the newest first", body = Page),
        (status = 400, description = "an unknown parameter", body = Problem),
        (status = 401, description = "no valid token", body = Problem),
        (status = 422, description = "a parameter that makes no sense", body = Problem),
    )
)]
pub async fn list(
    State(app): State<Shared>,
    caller: Caller,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Json<Page>, Problem> {
    caller.require(Role::Viewer)?;
    let Query(query) = query?;
    let limit = query.limit.unwrap_or(PAGE);
    if !(1..=LARGEST_PAGE).contains(&limit) {
        return Err(Problem::invalid(format!("limit must be 1 to {LARGEST_PAGE}")));
    }
    let before = query.cursor.map(|cursor| cursor.parse::<i64>()).transpose();
    let before = before.map_err(|_| Problem::invalid("cursor is none that this server gave"))?;
    let filter =
        Filter { product: query.product, chip: query.chip, version: query.version, yanked: query.yanked };
    let read = move |tx: &Connection| {
        let total = rows::count(tx, &filter)?;
        let mut items = rows::list(tx, &filter, before, limit + 1)?;
        let more = items.len() > limit as usize;
        items.truncate(limit as usize);
        let next = items.last().filter(|_| more).map(|last| last.id.to_string());
        Ok::<_, DbError>(Page { items, next, total })
    };
    Ok(Json(app.db.read(read).await?))
}

/// Shows a release
#[utoipa::path(
    get,
    path = "/releases/{id}",
    tag = "releases",
    params(("id" = i64, Path, description = "its number")),
    responses(
        (status = 200, description = "the release", body = Release),
        (status = 401, description = "no valid token", body = Problem),
        (status = 404, description = "no such release", body = Problem),
    )
)]
pub async fn get(
    State(app): State<Shared>,
    caller: Caller,
    id: Result<Path<i64>, PathRejection>,
) -> Result<Json<Release>, Problem> {
    caller.require(Role::Viewer)?;
    Ok(Json(find(&app, number(id)?).await?))
}

/// What can be changed of a release.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// What people should know about it.
    pub notes: String,
}

/// Changes a release's notes
#[utoipa::path(
    patch,
    path = "/releases/{id}",
    tag = "releases",
    params(("id" = i64, Path, description = "its number")),
    request_body = Change,
    responses(
        (status = 200, description = "the release", body = Release),
        (status = 400, description = "no JSON", body = Problem),
        (status = 401, description = "no valid token", body = Problem),
        (status = 403, description = "the token's role is too weak", body = Problem),
        (status = 404, description = "no such release", body = Problem),
        (status = 413, description = "too large", body = Problem),
        (status = 415, description = "no JSON by its content type", body = Problem),
        (status = 422, description = "an unknown field, or too long", body = Problem),
    )
)]
pub async fn change(
    State(app): State<Shared>,
    caller: Caller,
    id: Result<Path<i64>, PathRejection>,
    change: Result<Json<Change>, JsonRejection>,
) -> Result<Json<Release>, Problem> {
    caller.require(Role::Operator)?;
    let (id, Json(change)) = (number(id)?, change?);
    check_notes(Some(&change.notes))?;
    let done = app.db.write(move |tx| rows::set_notes(tx, id, &change.notes)).await?;
    changed(&app, id, done).await
}

/// Takes a release back
///
/// It is offered to no device any longer, and no rollout can begin with it. Devices that run it go on; its files stay, so that whoever has
/// a link can finish.
#[utoipa::path(
    post,
    path = "/releases/{id}/yank",
    tag = "releases",
    params(("id" = i64, Path, description = "its number")),
    responses(
        (status = 200, description = "the release", body = Release),
        (status = 401, description = "no valid token", body = Problem),
        (status = 403, description = "the token's role is too weak", body = Problem),
        (status = 404, description = "no such release", body = Problem),
    )
)]
pub async fn yank(
    State(app): State<Shared>,
    caller: Caller,
    id: Result<Path<i64>, PathRejection>,
) -> Result<Json<Release>, Problem> {
    caller.require(Role::Operator)?;
    let (id, now) = (number(id)?, app.clock.now());
    let done = app.db.write(move |tx| rows::set_yanked(tx, id, Some(now))).await?;
    changed(&app, id, done).await
}

/// Gives a release again that was taken back
#[utoipa::path(
    post,
    path = "/releases/{id}/unyank",
    tag = "releases",
    params(("id" = i64, Path, description = "its number")),
    responses(
        (status = 200, description = "the release", body = Release),
        (status = 401, description = "no valid token", body = Problem),
        (status = 403, description = "the token's role is too weak", body = Problem),
        (status = 404, description = "no such release", body = Problem),
    )
)]
pub async fn unyank(
    State(app): State<Shared>,
    caller: Caller,
    id: Result<Path<i64>, PathRejection>,
) -> Result<Json<Release>, Problem> {
    caller.require(Role::Operator)?;
    let id = number(id)?;
    let done = app.db.write(move |tx| rows::set_yanked(tx, id, None)).await?;
    changed(&app, id, done).await
}

/// How to build.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct BuildQuery {
    /// Also in place of a file that was signed elsewhere; for admins.
    #[serde(default)]
    pub replace: bool,
}

/// Makes the release file anew, with patches from what the fleet runs now
///
/// The work is done in the background.
#[utoipa::path(
    post,
    path = "/releases/{id}/build",
    tag = "releases",
    params(("id" = i64, Path, description = "its number"), BuildQuery),
    responses(
        (status = 202, description = "the work, which has been asked for", body = Job),
        (status = 400, description = "an unknown parameter", body = Problem),
        (status = 401, description = "no valid token", body = Problem),
        (status = 403, description = "the token's role is too weak", body = Problem),
        (status = 404, description = "no such release", body = Problem),
        (status = 409, description = "nothing can be built, or a file that was signed elsewhere is there", body = Problem),
    )
)]
pub async fn build(
    State(app): State<Shared>,
    caller: Caller,
    id: Result<Path<i64>, PathRejection>,
    query: Result<Query<BuildQuery>, QueryRejection>,
) -> Result<(StatusCode, Json<Job>), Problem> {
    let (id, Query(query)) = (number(id)?, query?);
    caller.require(if query.replace { Role::Admin } else { Role::Operator })?;
    if app.keys.signer().is_none() {
        return Err(Problem::conflict(
            "this server has no signing key; start it with one, or upload an .otaru file",
        ));
    }
    let (kind, now) = (if query.replace { JobKind::Replace } else { JobKind::Build }, app.clock.now());
    let write = move |tx: &Connection| {
        let release = rows::get(tx, id)?.ok_or_else(|| missing(id))?;
        can_be_built(&release, kind)?;
        Ok::<_, Problem>(Job::ask(tx, id, kind, now)?)
    };
    let job = app.db.write(write).await?;
    app.wake.jobs.notify_one();
    Ok((StatusCode::ACCEPTED, Json(job)))
}

fn can_be_built(release: &Release, kind: JobKind) -> Result<(), Problem> {
    if release.raw.is_none() {
        return Err(Problem::conflict("the release has no image as a file; upload its .bin"));
    }
    if release.file.is_some() && !release.built && kind == JobKind::Build {
        let detail =
            "its file was signed elsewhere, and stays; an admin can ask for another with `replace=true`";
        return Err(Problem::conflict(detail));
    }
    Ok(())
}

/// Sends on to the release's file
#[utoipa::path(
    get,
    path = "/releases/{id}/file",
    tag = "releases",
    params(("id" = i64, Path, description = "its number")),
    responses(
        (status = 307, description = "where the file is"),
        (status = 401, description = "no valid token", body = Problem),
        (status = 404, description = "no such release, or it has no file", body = Problem),
    )
)]
pub async fn file(
    State(app): State<Shared>,
    caller: Caller,
    id: Result<Path<i64>, PathRejection>,
) -> Result<Redirect, Problem> {
    caller.require(Role::Viewer)?;
    let release = find(&app, number(id)?).await?;
    let (digest, name) = release.offered().ok_or_else(|| Problem::not_found("file of this release"))?;
    Ok(Redirect::temporary(&downloads::path(digest, &name)))
}

fn number(id: Result<Path<i64>, PathRejection>) -> Result<i64, Problem> {
    id.map(|Path(id)| id).map_err(|_| Problem::not_found("such release"))
}

fn missing(id: i64) -> Problem {
    Problem::not_found(format_args!("release {id}"))
}

async fn find(app: &App, id: i64) -> Result<Release, Problem> {
    app.db.read(move |tx| rows::get(tx, id)).await?.ok_or_else(|| missing(id))
}

/// Tells that a release changed, and shows it.
async fn changed(app: &App, id: i64, done: bool) -> Result<Json<Release>, Problem> {
    if !done {
        return Err(missing(id));
    }
    app.events.tell(Event::Release { id });
    Ok(Json(find(app, id).await?))
}

fn check_notes(notes: Option<&str>) -> Result<(), Problem> {
    match notes {
        Some(notes) if notes.len() > LONGEST_NOTES => {
            Err(Problem::invalid(format!("notes may have at most {LONGEST_NOTES} bytes")))
        }
        _ => Ok(()),
    }
}
