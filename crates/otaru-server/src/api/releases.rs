//! `/releases`: upload, list, take back, build.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Redirect, Response};
use rusqlite::Connection;
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::access::audit;
use crate::app::{App, Shared};
use crate::artifacts::Staged;
use crate::caller::{Caller, Role};
use crate::db::DbError;
use crate::downloads;
use crate::events::Event;
use crate::page::{Cursor, Page, PageQuery};
use crate::problem::Problem;
use crate::releases::accept::accept;
use crate::releases::naming::Naming;
use crate::releases::needs::Needs;
use crate::releases::register::Registered;
use crate::releases::rows;
use crate::releases::upload::{Announced, receive};
use crate::releases::{Filter, Job, JobKind, Release};
use crate::web::extract::{Body as JsonBody, Path, Query};
use crate::web::login::Operator;

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
    /// What the file is called where it comes from: kept to tell releases apart, in 100 bytes at most.
    pub filename: Option<String>,
    /// The product, where it is not the image's project name. Devices take such a release only where `Config::product` is this one.
    pub product: Option<String>,
    /// The version, where it is not the image's own: some frameworks put the same into every build.
    pub version: Option<String>,
    /// What people should know about it.
    pub notes: Option<String>,
    /// SHA-256 of the file in hexadecimal digits, as an alternative to the header `Repr-Digest`.
    pub sha256: Option<String>,
}

/// Uploads firmware
///
/// Chip, product and version are read from the file, unless an image is given other names. The same image again is the same release, and
/// is called otherwise if it is given other names; an `.otaru` file and a `.bin` file of one image complete each other.
#[utoipa::path(
    post,
    path = "/releases",
    operation_id = "upload_release",
    tag = "releases",
    params(
        UploadQuery,
        ("Repr-Digest" = Option<String>, Header, description = "`sha-256=:BASE64:` (RFC 9530); `Content-Digest` is taken, too"),
    ),
    request_body(content = Firmware, content_type = "application/octet-stream"),
    responses(
        (status = 201, description = "a new release", body = Uploaded),
        (status = 200, description = "the image is known already", body = Uploaded),
    )
)]
async fn upload(
    State(app): State<Shared>,
    Operator(caller): Operator,
    Query(query): Query<UploadQuery>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    if headers.get(header::CONTENT_ENCODING).is_some_and(|coding| coding != "identity") {
        return Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "content-coding",
            "send the file as it is",
        ));
    }
    let announced = Announced::read(&headers, query.sha256.as_deref())?;
    let len = headers.get(header::CONTENT_LENGTH).and_then(|len| len.to_str().ok()?.parse().ok());
    let naming = Naming::new(query.product, query.version, query.filename)?;
    check_notes(query.notes.as_deref())?;
    let staged = receive_upload(&app, &announced, len, body).await?;
    let (release, registered) = take_upload(&app, caller, staged, naming, query.notes).await?;
    let status = if registered.created { StatusCode::CREATED } else { StatusCode::OK };
    let place = [(header::LOCATION, format!("/api/v1/releases/{}", release.id))];
    let remarks = registered.remarks;
    Ok((status, place, Json(Uploaded { release, remarks })).into_response())
}

/// The release that a file became.
#[derive(Debug, serde::Serialize, utoipa::ToSchema)]
struct Uploaded {
    #[serde(flatten)]
    release: Release,
    /// What was left out of the file or kept of it, and what else to know.
    remarks: Vec<String>,
}

/// Receives a file that is to become a release.
///
/// # Errors
/// When it is too large, too slow, or not what was announced.
pub(crate) async fn receive_upload(
    app: &App,
    announced: &Announced,
    len: Option<u64>,
    body: Body,
) -> Result<Staged, Problem> {
    Ok(receive(&app.artifacts, app.config.uploads, announced, len, body).await?)
}

/// Takes a file in, and tells everybody. Says what it made of it.
///
/// # Errors
/// When it is no firmware, or cannot be called so.
pub(crate) async fn take_upload(
    app: &Shared,
    caller: Caller,
    staged: Staged,
    naming: Naming,
    notes: Option<String>,
) -> Result<(Release, Registered), Problem> {
    check_notes(notes.as_deref())?;
    let (by, now) = (caller.name.clone(), app.clock.now());
    let (filename, called) = (naming.filename.clone(), naming.clone());
    let noted = move |tx: &Connection, registered: &Registered| {
        let mut detail = json!({ "created": registered.created, "changed": registered.changed });
        for (name, text) in
            [("filename", called.filename), ("product", called.product), ("version", called.version)]
        {
            if let Some(text) = text {
                detail[name] = text.into();
            }
        }
        audit::note(tx, &caller, "release.upload", &object(registered.id), &detail, now)
    };
    let accepted = accept(app, staged, naming, notes, by, noted).await;
    let registered = accepted.map_err(|error| named(error.into(), filename.as_deref()))?;
    Ok((find(app, registered.id).await?, registered))
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
}

/// Lists releases
#[utoipa::path(
    get,
    path = "/releases",
    tag = "releases",
    operation_id = "list_releases",
    params(ListQuery, PageQuery),
    responses(
        (status = 200, description = "a page of releases, the newest first", body = Page<Release>),
    )
)]
async fn list(
    State(app): State<Shared>,
    _caller: Caller,
    Query(query): Query<ListQuery>,
    Query(wanted): Query<PageQuery>,
) -> Result<Json<Page<Release>>, Problem> {
    let (before, limit) = (wanted.after::<i64>()?, wanted.limit()?);
    let filter =
        Filter { product: query.product, chip: query.chip, version: query.version, yanked: query.yanked };
    let read = move |tx: &Connection| {
        let total = rows::count(tx, &filter)?;
        let items = rows::list(tx, &filter, before, limit + 1)?;
        Ok::<_, DbError>(Page::cut(items, limit, |release| Cursor::of(&release.id)).with_total(total))
    };
    Ok(Json(app.db.read(read).await?))
}

/// Shows a release
#[utoipa::path(
    get,
    path = "/releases/{id}",
    operation_id = "get_release",
    tag = "releases",
    params(("id" = i64, Path, description = "its number")),
    responses(
        (status = 200, description = "the release", body = Release),
    )
)]
async fn get(
    State(app): State<Shared>,
    _caller: Caller,
    Path(id): Path<i64>,
) -> Result<Json<Release>, Problem> {
    Ok(Json(find(&app, id).await?))
}

/// What can be changed of a release.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ChangeRelease)]
pub struct Change {
    /// What people should know about it.
    pub notes: String,
}

/// Changes a release's notes
#[utoipa::path(
    patch,
    path = "/releases/{id}",
    operation_id = "change_release",
    tag = "releases",
    params(("id" = i64, Path, description = "its number")),
    request_body = Change,
    responses(
        (status = 200, description = "the release", body = Release),
    )
)]
async fn change(
    State(app): State<Shared>,
    Operator(caller): Operator,
    Path(id): Path<i64>,
    JsonBody(change): JsonBody<Change>,
) -> Result<Json<Release>, Problem> {
    Ok(Json(set_notes(&app, caller, id, change.notes).await?))
}

/// Changes a release's notes.
///
/// # Errors
/// When there is none, or they are too long.
pub(crate) async fn set_notes(app: &App, caller: Caller, id: i64, notes: String) -> Result<Release, Problem> {
    check_notes(Some(&notes))?;
    let detail = json!({ "notes": notes });
    edit(app, caller, id, "release.change", detail, move |tx| rows::set_notes(tx, id, &notes)).await
}

/// Takes a release back
///
/// It is offered to no device any longer, and no rollout can begin with it. Devices that run it go on; its files stay, so that whoever has
/// a link can finish.
#[utoipa::path(
    post,
    path = "/releases/{id}/yank",
    operation_id = "yank_release",
    tag = "releases",
    params(("id" = i64, Path, description = "its number")),
    responses(
        (status = 200, description = "the release", body = Release),
    )
)]
async fn yank(
    State(app): State<Shared>,
    Operator(caller): Operator,
    Path(id): Path<i64>,
) -> Result<Json<Release>, Problem> {
    Ok(Json(set_yanked(&app, caller, id, true).await?))
}

/// Takes a release back, or gives it again.
///
/// # Errors
/// When there is none.
pub(crate) async fn set_yanked(app: &App, caller: Caller, id: i64, yanked: bool) -> Result<Release, Problem> {
    let action = if yanked { "release.yank" } else { "release.unyank" };
    let at = yanked.then(|| app.clock.now());
    edit(app, caller, id, action, json!({}), move |tx| rows::set_yanked(tx, id, at)).await
}

/// Gives a release again that was taken back
#[utoipa::path(
    post,
    path = "/releases/{id}/unyank",
    operation_id = "unyank_release",
    tag = "releases",
    params(("id" = i64, Path, description = "its number")),
    responses(
        (status = 200, description = "the release", body = Release),
    )
)]
async fn unyank(
    State(app): State<Shared>,
    Operator(caller): Operator,
    Path(id): Path<i64>,
) -> Result<Json<Release>, Problem> {
    Ok(Json(set_yanked(&app, caller, id, false).await?))
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
    operation_id = "build_release",
    tag = "releases",
    params(("id" = i64, Path, description = "its number"), BuildQuery),
    responses(
        (status = 202, description = "the work, which has been asked for", body = Job),
    )
)]
async fn build(
    State(app): State<Shared>,
    Operator(caller): Operator,
    Path(id): Path<i64>,
    Query(query): Query<BuildQuery>,
) -> Result<(StatusCode, Json<Job>), Problem> {
    Ok((StatusCode::ACCEPTED, Json(ask_for_build(&app, caller, id, query.replace).await?)))
}

/// Asks for a release file to be made anew; `replace` also asks for one that was signed elsewhere.
///
/// # Errors
/// When it cannot be made here.
pub(crate) async fn ask_for_build(app: &App, caller: Caller, id: i64, replace: bool) -> Result<Job, Problem> {
    if replace {
        caller.require(Role::Admin)?;
    }
    let signs = app.keys.signer().is_some();
    let (kind, now) = (if replace { JobKind::Replace } else { JobKind::Build }, app.clock.now());
    let write = move |tx: &Connection| {
        let release = rows::get(tx, id)?.ok_or_else(|| missing(id))?;
        if !signs && !release.built {
            return Err(Problem::conflict(
                "this server has no signing key; start it with one, or upload an .otaru file",
            ));
        }
        can_be_built(&release, kind)?;
        let detail = json!({ "replace": kind == JobKind::Replace });
        audit::note(tx, &caller, "release.build", &object(id), &detail, now)?;
        Ok::<_, Problem>(Job::ask(tx, id, kind, now)?)
    };
    let job = app.db.write(write).await?;
    app.wake.jobs.notify_one();
    Ok(job)
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
    operation_id = "release_file",
    tag = "releases",
    params(("id" = i64, Path, description = "its number")),
    responses(
        (status = 307, description = "where the file is"),
    )
)]
async fn file(State(app): State<Shared>, _caller: Caller, Path(id): Path<i64>) -> Result<Redirect, Problem> {
    let release = find(&app, id).await?;
    let (digest, name) = release.offered().ok_or_else(|| Problem::not_found("file of this release"))?;
    Ok(Redirect::temporary(&downloads::path(digest, &name)))
}

fn missing(id: i64) -> Problem {
    Problem::not_found(format_args!("release {id}"))
}

async fn find(app: &App, id: i64) -> Result<Release, Problem> {
    let mut release = app.db.read(move |tx| rows::get(tx, id)).await?.ok_or_else(|| missing(id))?;
    // Of one that was uploaded before it was kept.
    if let Some(raw) = release.raw.filter(|_| release.needs.is_none()) {
        release.needs = Needs::read(&app.artifacts, raw).await;
    }
    Ok(release)
}

/// What the audit log calls it.
fn object(id: i64) -> String {
    format!("release/{id}")
}

/// Changes a release, notes who did it, tells it, and shows the release.
async fn edit(
    app: &App,
    caller: Caller,
    id: i64,
    action: &'static str,
    detail: Value,
    change: impl FnOnce(&Connection) -> Result<bool, DbError> + Send + 'static,
) -> Result<Release, Problem> {
    let now = app.clock.now();
    let write = move |tx: &Connection| {
        let done = change(tx)?;
        if done {
            audit::note(tx, &caller, action, &object(id), &detail, now)?;
        }
        Ok::<_, DbError>(done)
    };
    if !app.db.write(write).await? {
        return Err(missing(id));
    }
    app.events.tell(Event::Release { id });
    find(app, id).await
}

fn check_notes(notes: Option<&str>) -> Result<(), Problem> {
    match notes {
        Some(notes) if notes.len() > LONGEST_NOTES => {
            Err(Problem::invalid(format!("notes may have at most {LONGEST_NOTES} bytes")))
        }
        _ => Ok(()),
    }
}
