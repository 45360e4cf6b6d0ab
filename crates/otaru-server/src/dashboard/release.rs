//! `/releases/{id}`: one release: what was read from it, what devices fetch, and what can be done with it.

use crate::db::Connection;
use askama::Template;
use axum::Router;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::{get, post};
use otaru_api::Release;

use super::admission::OperatorVisitor;
use super::chart;
use super::fields::Form;
use super::page::{Page, after, draw};
use super::rollouts::Row;
use super::shell::{Section, Shell};
use super::show;
use super::visitor::Visitor;
use crate::app::Shared;
use crate::problem::Problem;
use crate::releases::commands;
use crate::releases::{needs, rows};
use crate::rollouts::rows as rollouts;

/// Rollouts of it that are listed.
const ROLLOUTS: u32 = 20;

pub(super) fn router() -> Router<Shared> {
    Router::new()
        .route("/releases/{id}", get(page))
        .route("/releases/{id}/notes", post(notes))
        .route("/releases/{id}/yank", post(yank))
        .route("/releases/{id}/unyank", post(unyank))
        .route("/releases/{id}/build", post(build))
}

#[derive(Template)]
#[template(path = "release.html")]
struct ReleasePage {
    shell: Shell,
    release: Release,
    rollouts: Vec<Row>,
    /// Whether this server can make its release file.
    can_build: bool,
}

impl ReleasePage {
    fn file(&self) -> Option<String> {
        rows::offered_file(&self.release).map(|(digest, name)| crate::address::download_path(digest, &name))
    }
}

async fn page(State(app): State<Shared>, visitor: Visitor, Path(id): Path<i64>) -> Page {
    let read = move |tx: &Connection| {
        let release = rows::get(tx, id)?.ok_or_else(|| Problem::not_found(format_args!("release {id}")))?;
        let found = rollouts::of_release(tx, id, ROLLOUTS)?;
        let rollouts = found.into_iter().map(|kept| Row::of(tx, kept)).collect::<Result<_, _>>()?;
        Ok::<(Release, Vec<Row>), Problem>((release, rollouts))
    };
    let (mut release, rollouts) = app.db.read(read).await?;
    if let Some(raw) = release.raw.filter(|_| release.needs.is_none()) {
        release.needs = needs::read(&app.artifacts, raw).await;
    }
    let title = release.title.clone();
    draw(&ReleasePage {
        shell: Shell::new(&visitor, Section::Releases, title).live(format!("release/{id} device rollout")),
        can_build: (app.keys.signer().is_some() || release.built)
            && release.raw.is_some()
            && (release.file.is_none() || release.built),
        release,
        rollouts,
    })
}

fn back(id: i64) -> String {
    format!("/releases/{id}")
}

async fn notes(
    State(app): State<Shared>,
    OperatorVisitor(visitor): OperatorVisitor,
    Path(id): Path<i64>,
    Form(fields): Form,
) -> Response {
    let changed = commands::set_notes(&app, visitor.caller, id, fields.text("notes").to_owned()).await;
    after(changed.map(|_| "The notes were saved.".into()), &back(id))
}

async fn yank(
    State(app): State<Shared>,
    OperatorVisitor(visitor): OperatorVisitor,
    Path(id): Path<i64>,
) -> Response {
    let changed = commands::set_yanked(&app, visitor.caller, id, true).await;
    after(changed.map(|_| "The release was yanked: it is no longer offered to devices.".into()), &back(id))
}

async fn unyank(
    State(app): State<Shared>,
    OperatorVisitor(visitor): OperatorVisitor,
    Path(id): Path<i64>,
) -> Response {
    let changed = commands::set_yanked(&app, visitor.caller, id, false).await;
    after(changed.map(|_| "The release was un-yanked: it can be rolled out again.".into()), &back(id))
}

async fn build(
    State(app): State<Shared>,
    OperatorVisitor(visitor): OperatorVisitor,
    Path(id): Path<i64>,
) -> Response {
    let asked = commands::ask_for_build(&app, visitor.caller, id, false).await;
    after(
        asked.map(|_| {
            "Rebuild queued: a new release file, with patches from the images that devices run.".into()
        }),
        &back(id),
    )
}
