//! `/releases`: firmware that devices can be given, and a place to drop more.

use askama::Template;
use axum::Router;
use axum::extract::multipart::Field;
use axum::extract::{DefaultBodyLimit, Multipart, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use futures_util::StreamExt as _;
use otaru_api::{Cursor, JobState, Page as Listed, Release};

use super::admission::OperatorVisitor;
use super::chart::{self, Part};
use super::fields::Query;
use super::notice::Notice;
use super::page::{Failure, Page, draw, go, sentence};
use super::shell::{Section, Shell};
use super::show::{self, Tone};
use super::visitor::Visitor;
use crate::app::Shared;
use crate::artifacts::Staged;
use crate::db::{Connection, DbError};
use crate::page::PageQuery;
use crate::problem::Problem;
use crate::releases::commands;
use crate::releases::naming::Naming;
use crate::releases::register::Registered;
use crate::releases::{Filter, rows};
use crate::web::upload::{Announced, receive_upload};

/// Releases on a page.
const ROWS: u32 = 30;
/// Bytes of a field for a name that are read.
const LONGEST_NAME: usize = 256;

pub(super) fn router() -> Router<Shared> {
    // The upload has limits of its own.
    let upload = get(page).post(upload).layer(DefaultBodyLimit::disable());
    Router::new().route("/releases", upload)
}

#[derive(Template)]
#[template(path = "releases.html")]
struct ReleasesPage {
    shell: Shell,
    releases: Vec<Release>,
    total: u64,
    next: Option<Cursor>,
    first: bool,
    /// Whether uploads are signed here.
    signs: bool,
    /// Bytes of the largest file.
    largest: u64,
}

/// The sizes of what devices fetch, beside that of the image.
pub(super) fn sizes(release: &Release) -> Vec<(String, u64, u64, [Part; 1])> {
    let full = release.image_size;
    let part = |number, tone| [Part { name: String::new(), number, tone, href: String::new() }];
    let mut all = vec![("image".to_owned(), full, 100, part(full, Tone::Calm))];
    if let Some(size) = release.compressed_size {
        all.push(("compressed".into(), size, show::percent(size, full), part(size, Tone::Busy)));
    }
    for delta in &release.deltas {
        let from = delta.version.clone().unwrap_or_else(|| show::short(&delta.base.to_string()).to_owned());
        let name = format!("patch from {from}");
        all.push((name, delta.size, show::percent(delta.size, full), part(delta.size, Tone::Good)));
    }
    all
}

/// Returns the progress of work on a release, unless it is done.
pub(super) fn work(release: &Release) -> Option<(Tone, String)> {
    let job = release.job.as_ref()?;
    match job.state.known()? {
        JobState::Queued => Some((Tone::Wait, "waiting to be built".into())),
        JobState::Running => Some((Tone::Busy, format!("building: {}", job.detail))),
        JobState::Failed => Some((Tone::Bad, format!("build failed: {}", job.detail))),
        JobState::Done => None,
    }
}

async fn page(State(app): State<Shared>, visitor: Visitor, Query(fields): Query) -> Page {
    let wanted = PageQuery { limit: None, cursor: fields.get("cursor").map(str::to_owned) };
    let before = wanted.after::<i64>()?;
    let read = move |tx: &Connection| {
        let filter = Filter::default();
        let items = rows::list(tx, &filter, before, ROWS + 1)?;
        Ok::<_, DbError>((
            Listed::cut(items, ROWS, |release| Cursor::of(&release.id)),
            rows::count(tx, &filter)?,
        ))
    };
    let (found, total) = app.db.read(read).await?;
    draw(&ReleasesPage {
        shell: Shell::new(&visitor, Section::Releases, "Releases").live("release device"),
        releases: found.items,
        next: found.next,
        first: before.is_none(),
        total,
        signs: app.keys.signer().is_some(),
        largest: app.config.upload_limits.bytes,
    })
}

async fn upload(
    State(app): State<Shared>,
    hand: Result<OperatorVisitor, Response>,
    parts: Result<Multipart, axum::extract::multipart::MultipartRejection>,
) -> Response {
    let OperatorVisitor(visitor) = match hand {
        Ok(hand) => hand,
        Err(response) => return response,
    };
    let parts = match parts {
        Ok(parts) => parts,
        Err(rejection) => return Failure::from(Problem::invalid(rejection.body_text())).into_response(),
    };
    match take(&app, &visitor, parts).await {
        Ok((release, registered)) => {
            let what = format!("{} for {}", release.title, release.chip);
            let created = registered.created;
            let mut text =
                if created { format!("Read: {what}.") } else { format!("{what} was uploaded before.") };
            for remark in &registered.remarks {
                text.push_str(&format!(" {}.", sentence(remark)));
            }
            go(&format!("/releases/{}", release.id), &Notice::done(text))
        }
        Err(problem) => go("/releases", &Notice::failed(sentence(&problem.detail))),
    }
}

async fn take(
    app: &Shared,
    visitor: &Visitor,
    mut parts: Multipart,
) -> Result<(Release, Registered), Problem> {
    let bad = |error: axum::extract::multipart::MultipartError| Problem::invalid(error.body_text());
    let (mut staged, mut filename, mut product, mut version) = (None, None, None, None);
    while let Some(field) = parts.next_field().await.map_err(bad)? {
        match field.name().unwrap_or_default() {
            "file" if staged.is_none() => {
                let name = field.file_name().filter(|name| !name.is_empty()).map(str::to_owned);
                if name.is_some() {
                    (staged, filename) = (Some(receive(app, field).await?), name);
                }
            }
            "product" => product = Some(text(field).await?),
            "version" => version = Some(text(field).await?),
            _ => {}
        }
    }
    let Some(staged) = staged else {
        return Err(Problem::invalid("choose a file first: an ESP image (.bin) or a release file (.otaru)"));
    };
    let naming = Naming::new(product, version, filename)?;
    commands::take_upload(app, visitor.caller.clone(), staged, naming, None).await
}

/// A field of the form, of a name's length.
async fn text(mut field: Field<'_>) -> Result<String, Problem> {
    let mut bytes = Vec::new();
    while let Some(piece) = field.next().await {
        bytes.extend_from_slice(&piece.map_err(|error| Problem::invalid(error.body_text()))?);
        if bytes.len() > LONGEST_NAME {
            return Err(Problem::invalid("a product or version has at most 32 bytes"));
        }
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

async fn receive(app: &Shared, field: Field<'_>) -> Result<Staged, Problem> {
    // Through a channel: a field is lent by the form, and a body must own what it gives.
    let (sender, receiver) = tokio::sync::mpsc::channel::<Result<bytes::Bytes, std::io::Error>>(4);
    let body = axum::body::Body::from_stream(tokio_stream::wrappers::ReceiverStream::new(receiver));
    let pieces = async {
        let mut field = field;
        while let Some(piece) = field.next().await {
            let piece = piece.map_err(|error| std::io::Error::other(error.body_text()));
            if sender.send(piece).await.is_err() {
                break;
            }
        }
        drop(sender);
    };
    let announced = Announced::default();
    let received = receive_upload(app, &announced, None, body);
    tokio::pin!(received);
    // Who stalls is not waited for once the upload was given up.
    tokio::select! {
        staged = &mut received => staged,
        () = pieces => received.await,
    }
}
