//! Rollouts as they are asked for.

use otaru_api::NewRollout;
use otaru_rollout::{RolloutId, Time};

use super::operate::{self, Brings, is_ahead};
use super::preview;
use super::rows::StoredRollout;
use super::transaction::Changes;
use crate::app::App;
use crate::caller::Caller;
use crate::db::Connection;
use crate::problem::Problem;
use crate::releases::again::{self, Prepared, When};

pub(super) fn brings(new: &NewRollout) -> Result<Brings, Problem> {
    match (new.release, new.undo) {
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
pub(crate) async fn prepare(new: &NewRollout, app: &App) -> Result<Prepared, Problem> {
    let is_later = new.draft || is_ahead(new.start_at.map(Time::from), app.clock.now());
    prepared(new, app, if is_later { When::Later } else { When::Now }).await
}

/// The same, at this time.
pub(super) async fn prepared(new: &NewRollout, app: &App, when: When) -> Result<Prepared, Problem> {
    let (new, brings, now) = (new.clone(), brings(new)?, app.clock.now());
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
    new: &NewRollout,
    tx: &Connection,
    caller: &Caller,
    prepared: &Prepared,
    now: Time,
) -> Result<(StoredRollout, Changes), Problem> {
    prepared.apply(tx, now)?;
    let (goal, release) = operate::goal(tx, brings(new)?)?;
    operate::create(tx, caller, &new.name, release, new.clone().spec(goal), new.draft, now)
}
