//! Rollouts as they are asked for.

use std::collections::BTreeSet;

use otaru_api::NewRollout;
use otaru_rollout::{DeviceId, MAX_LIST, RolloutId, Time};

use super::operate::{self, Brings};
use super::preview;
use super::rows::StoredRollout;
use super::transaction::Changes;
use crate::app::App;
use crate::caller::Caller;
use crate::db::{Connection, DbError, Value};
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
    let waits = new.continuous || new.draft || is_ahead(new.start_at.map(Time::from), now);
    // A list that is too long is told by whoever checks all of it.
    let named = new.target.devices.as_ref().filter(|devices| !waits && devices.len() <= MAX_LIST);
    if let Some(devices) = named {
        are_there(tx, devices)?;
    }
    prepared.apply(tx, now)?;
    let (goal, release) = operate::goal(tx, brings(new)?)?;
    operate::create(tx, caller, &new.name, release, new.clone().spec(goal), new.draft, now)
}

/// Devices that are looked up with one statement.
const AT_ONCE: usize = 500;

/// # Errors
/// When one of these devices does not exist, or is retired: of a rollout that begins now and ends by itself it would never be a part.
fn are_there(tx: &Connection, devices: &BTreeSet<DeviceId>) -> Result<(), Problem> {
    let devices: Vec<&DeviceId> = devices.iter().collect();
    for some in devices.chunks(AT_ONCE) {
        // A statement for each power of two, not for each number: connections keep what they have prepared.
        let marks = some.len().next_power_of_two();
        let ids: Vec<Value> = some.iter().cycle().take(marks).map(|id| id.to_string().into()).collect();
        let marks = vec!["?"; marks].join(", ");
        let sql = format!("SELECT id FROM devices WHERE id IN ({marks}) AND retired_at IS NULL");
        let rows = tx.prepare(&sql);
        let there = rows.query_map(ids, |row| row.get(0))?;
        let there: BTreeSet<String> = there.collect::<Result<_, DbError>>()?;
        if let Some(missing) = some.iter().find(|id| !there.contains(id.as_str())) {
            return Err(Problem::invalid(format!(
                "there is no device {missing}, or it is retired; with `continuous`, the rollout waits for it"
            )));
        }
    }
    Ok(())
}

/// Whether a rollout that is started at this moment waits for its time.
pub(super) fn is_ahead(start_at: Option<Time>, now: Time) -> bool {
    start_at.is_some_and(|at| at > now)
}
