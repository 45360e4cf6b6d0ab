//! `/rollouts`: all of them, the newest first.

use askama::Template;
use axum::Router;
use axum::extract::State;
use axum::routing::get;
use otaru_api::{Cursor, Page as Listed};
use otaru_rollout::Tally;

use super::chart::{self, Part};
use super::fields::Query;
use super::page::{Page, draw};
use super::shell::{Section, Shell};
use super::show::{self, Tone};
use super::visitor::Visitor;
use crate::app::Shared;
use crate::db::{Connection, DbError};
use crate::page::PageQuery;
use crate::rollouts::rows::{self, StoredRollout};
use crate::rollouts::view::RolloutView;

/// Rollouts on a page.
const ROWS: u32 = 30;

pub(super) fn router() -> Router<Shared> {
    Router::new().route("/rollouts", get(page))
}

/// A rollout in a list.
pub(super) struct Row {
    pub(super) view: RolloutView,
    /// Devices by standing.
    pub(super) parts: Vec<Part>,
    /// Number of devices.
    pub(super) devices: u64,
    /// Number of devices that run the image.
    pub(super) done: u64,
    /// Number of devices that failed.
    pub(super) failed: u64,
}

impl Row {
    pub(super) fn of(tx: &Connection, kept: StoredRollout) -> Result<Self, DbError> {
        Ok(Self::from(RolloutView::of(tx, kept)?))
    }

    /// Returns what it brings.
    pub(super) fn brings(&self) -> String {
        match (&self.view.release, self.view.undo) {
            (Some(release), _) => release.title.clone(),
            (None, Some(undo)) => format!("rollout {undo}"),
            (None, None) => String::new(),
        }
    }

    /// Whether it is over.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.view.phase.as_str(), "completed" | "aborted")
    }
}

impl From<RolloutView> for Row {
    fn from(view: RolloutView) -> Self {
        let all: Tally = view.tallies.iter().sum();
        let base = format!("/rollouts/{}", view.id);
        let parts = parts(&all, &base);
        Self {
            devices: u64::from(all.total()),
            done: u64::from(all.succeeded + all.current),
            failed: u64::from(all.verdicts().bad),
            parts,
            view,
        }
    }
}

/// Returns the devices by standing, as parts of a bar.
pub(super) fn parts(tally: &Tally, base: &str) -> Vec<Part> {
    let part = |name: &str, number: u32, tone, standing: &str| Part {
        name: name.into(),
        number: u64::from(number),
        tone,
        href: format!("{base}?standing={standing}#devices"),
    };
    let all = vec![
        part("updated", tally.succeeded, Tone::Good, "succeeded"),
        part("already up to date", tally.current, Tone::Good, "current"),
        part("updating", tally.active, Tone::Busy, "active"),
        part("retrying", tally.retrying, Tone::Wait, "retrying"),
        part("rolled back", tally.rolled_back, Tone::Bad, "rolled_back"),
        part("failed", tally.failed, Tone::Bad, "failed"),
        part("timed out", tally.timed_out, Tone::Bad, "timed_out"),
        part("refused", tally.refused, Tone::Bad, "refused"),
        part("offline", tally.waiting, Tone::Wait, "waiting"),
        part("not started", tally.ready, Tone::Calm, "ready"),
        part("cancelled", tally.cancelled, Tone::Calm, "cancelled"),
        part("superseded", tally.superseded, Tone::Calm, "superseded"),
        part("keeps going back", tally.keeps_going_back, Tone::Bad, "keeps_going_back"),
        part("removed", tally.removed, Tone::Calm, "removed"),
    ];
    all.into_iter().filter(|part| part.number > 0).collect()
}

#[derive(Template)]
#[template(path = "rollouts.html")]
struct RolloutsPage {
    shell: Shell,
    rollouts: Vec<Row>,
    next: Option<Cursor>,
    phase: String,
    first: bool,
}

async fn page(State(app): State<Shared>, visitor: Visitor, Query(fields): Query) -> Page {
    let wanted = PageQuery { limit: None, cursor: fields.get("cursor").map(str::to_owned) };
    let before = wanted.after::<i64>()?;
    let phase = fields.get("phase").map(str::to_owned);
    let read = move |tx: &Connection| {
        let found = rows::list(tx, phase.as_deref(), before, ROWS + 1)?;
        let found = found.into_iter().map(|kept| Row::of(tx, kept)).collect::<Result<_, _>>()?;
        Ok::<_, DbError>(Listed::cut(found, ROWS, |last: &Row| Cursor::of(&last.view.id)))
    };
    let found = app.db.read(read).await?;
    draw(&RolloutsPage {
        shell: Shell::new(&visitor, Section::Rollouts, "Rollouts").live("rollout deployment"),
        rollouts: found.items,
        next: found.next,
        phase: fields.text("phase").to_owned(),
        first: before.is_none(),
    })
}
