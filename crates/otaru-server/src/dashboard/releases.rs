//! `/releases`: firmware that devices can be given, and a place to drop more.

use askama::Template;
use axum::Router;
use axum::extract::{DefaultBodyLimit, Multipart, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use futures_util::StreamExt as _;
use rusqlite::Connection;

use super::chart::{self, Part};
use super::fields::Query;
use super::shell::{Failure, Notice, Page, Section, Shell, draw, go, sentence};
use super::show::{self, Tone};
use super::visitor::{Hand, Visitor};
use crate::api::page::{Cursor, Page as Listed, Wanted};
use crate::api::problem::Problem;
use crate::api::releases as calls;
use crate::app::Shared;
use crate::db::DbError;
use crate::releases::register::Registered;
use crate::releases::upload::Announced;
use crate::releases::{Filter, JobState, Release, rows};

/// Releases on a page.
const ROWS: u32 = 30;

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

/// How work on a release is, if it is worth a word.
pub(super) fn work(release: &Release) -> Option<(Tone, String)> {
    let job = release.job.as_ref()?;
    match job.state {
        JobState::Queued => Some((Tone::Wait, "waits to be built".into())),
        JobState::Running => Some((Tone::Busy, format!("building: {}", job.detail))),
        JobState::Failed => Some((Tone::Bad, format!("build failed: {}", job.detail))),
        JobState::Done => None,
    }
}

async fn page(State(app): State<Shared>, visitor: Visitor, Query(fields): Query) -> Page {
    let wanted = Wanted { limit: None, cursor: fields.get("cursor").map(str::to_owned) };
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
        largest: app.config.uploads.bytes,
    })
}

async fn upload(
    State(app): State<Shared>,
    hand: Result<Hand, Response>,
    parts: Result<Multipart, axum::extract::multipart::MultipartRejection>,
) -> Response {
    let Hand(visitor) = match hand {
        Ok(hand) => hand,
        Err(response) => return response,
    };
    let parts = match parts {
        Ok(parts) => parts,
        Err(rejection) => return Failure::from(Problem::invalid(rejection.body_text())).into_response(),
    };
    match take(&app, &visitor, parts).await {
        Ok((release, registered)) => {
            let what = format!("{} {} for {}", release.product, release.version, release.chip);
            let created = registered.created;
            let mut text =
                if created { format!("Read: {what}.") } else { format!("{what} is here already.") };
            for remark in registered.remarks(&release) {
                text.push_str(&format!(" {}.", sentence(&remark)));
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
    while let Some(field) = parts.next_field().await.map_err(bad)? {
        if field.name() != Some("file") {
            continue;
        }
        let name = field.file_name().filter(|name| !name.is_empty()).map(str::to_owned);
        let Some(name) = name else { break };
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
        let (caller, announced) = (visitor.caller.clone(), Announced::default());
        let received = calls::take_upload(app, caller, &announced, None, Some(name), None, body);
        tokio::pin!(received);
        // Who stalls is not waited for once the upload was given up.
        return tokio::select! {
            release = &mut received => release,
            () = pieces => received.await,
        };
    }
    Err(Problem::invalid("choose a file first: an ESP image (.bin) or a release file (.otaru)"))
}
