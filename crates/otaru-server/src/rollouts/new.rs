//! Rollouts as they are asked for.

use otaru_rollout::{Attempts, Limits, RolloutId, RolloutSpec, StopRule, Target, Time, Wave};
use rusqlite::Connection;
use serde::{Deserialize, Serialize};

use super::operate::{self, Brings};
use super::preview;
use super::rows::StoredRollout;
use super::transaction::Changes;
use crate::app::App;
use crate::caller::Caller;
use crate::problem::Problem;
use crate::releases::again::{self, Prepared, When};
use crate::timestamp::Timestamp;

/// A rollout as it is asked for. What its fields mean: docs/rollouts.md.
#[derive(Debug, Clone, Deserialize, Serialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "name": "Lamps in Berlin to 1.1.0", "release": 1, "target": {"tags": "site=berlin"},
    "limits": {"concurrency": 50}
}))]
pub(crate) struct NewRollout {
    /// What people call it
    #[schema(min_length = 1, max_length = 100)]
    pub(crate) name: String,
    /// The release it brings: its id …
    #[serde(default)]
    pub(crate) release: Option<i64>,
    /// … or the rollout that it takes back
    #[serde(default)]
    pub(crate) undo: Option<u64>,
    /// Which devices; all, if not given
    #[serde(default)]
    #[schema(value_type = Object)]
    pub(crate) target: Target,
    /// The waves before the last
    #[serde(default)]
    #[schema(value_type = Vec<Object>, max_items = 16)]
    pub(crate) waves: Vec<Wave>,
    /// How many at once, how many a minute, and when
    #[serde(default)]
    #[schema(value_type = Object)]
    pub(crate) limits: Limits,
    /// When to stop by itself
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub(crate) stop: Option<StopRule>,
    /// How long and how often a device may try
    #[serde(default)]
    #[schema(value_type = Object)]
    pub(crate) attempts: Attempts,
    /// Of several for one device the highest has it; of equal ones the newest
    #[serde(default)]
    pub(crate) priority: i32,
    /// Shuffles the fleet for percentages
    #[serde(default)]
    #[schema(max_length = 64)]
    pub(crate) salt: String,
    /// Not before this
    #[serde(default)]
    pub(crate) start_at: Option<Timestamp>,
    /// Devices that have not begun by then are given up
    #[serde(default)]
    pub(crate) end_at: Option<Timestamp>,
    /// Never completes by itself
    #[serde(default)]
    pub(crate) continuous: bool,
    /// Also other products and what failed before: where firmware is not signed by the offers' word `force`, and where it is
    /// by signing it again with a higher sequence
    #[serde(default)]
    pub(crate) force: bool,
    /// Make it, but do not start it yet; nothing is signed before it starts
    #[serde(default)]
    pub(crate) draft: bool,
}

impl NewRollout {
    pub(super) fn brings(&self) -> Result<Brings, Problem> {
        match (self.release, self.undo) {
            (Some(release), None) => Ok(Brings::Release(release)),
            (None, Some(undo)) => Ok(Brings::Undo(RolloutId(undo))),
            _ => Err(Problem::invalid("give either `release` or `undo`")),
        }
    }

    /// Looks for what devices would refuse as older than what they have had, or could not be sent to, and signs it again unless the
    /// rollout starts later.
    ///
    /// # Errors
    /// When it makes no sense, a release has to be signed elsewhere first, or a file cannot be kept.
    pub(crate) async fn prepare(&self, app: &App) -> Result<Prepared, Problem> {
        let is_later = self.draft || is_ahead(self.start_at.map(Time::from), app.clock.now());
        self.prepared(app, if is_later { When::Later } else { When::Now }).await
    }

    /// The same, at this time.
    pub(super) async fn prepared(&self, app: &App, when: When) -> Result<Prepared, Problem> {
        let (new, brings, now) = (self.clone(), self.brings()?, app.clock.now());
        let found = app.db.read(move |tx| {
            let (goal, _) = operate::goal(tx, brings)?;
            preview::outdated(tx, new.spec(goal), now)
        });
        again::prepare(app, found.await?, when).await
    }

    /// Keeps it, and starts it unless it is a draft.
    ///
    /// # Errors
    /// When it makes no sense, or something changed since it was prepared.
    pub(crate) fn make(
        &self,
        tx: &Connection,
        caller: &Caller,
        prepared: &Prepared,
        now: Time,
    ) -> Result<(StoredRollout, Changes), Problem> {
        prepared.apply(tx, now)?;
        let (goal, release) = operate::goal(tx, self.brings()?)?;
        operate::create(tx, caller, &self.name, release, self.clone().spec(goal), self.draft, now)
    }

    pub(super) fn spec(self, goal: otaru_rollout::Goal) -> RolloutSpec {
        RolloutSpec {
            goal,
            target: self.target,
            salt: self.salt,
            priority: self.priority,
            waves: self.waves,
            limits: self.limits,
            stop: self.stop,
            attempts: self.attempts,
            start_at: self.start_at.map(Time::from),
            end_at: self.end_at.map(Time::from),
            continuous: self.continuous,
            force: self.force,
        }
    }
}

/// Whether a rollout that is started at this moment waits for its time.
pub(super) fn is_ahead(start_at: Option<Time>, now: Time) -> bool {
    start_at.is_some_and(|at| at > now)
}
