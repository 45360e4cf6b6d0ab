//! Steps of what operators do to rollouts, inside a write.

use std::collections::BTreeSet;

use otaru_format::digest::Digest;
use otaru_rollout::{
    Control, DeviceId, Event, Goal, Phase, Rollout, RolloutId, RolloutSpec, SpecError, Stage, Time,
};
use serde_json::json;

use super::rows::StoredRollout;
use super::transaction::{Changes, RolloutTransaction};
use super::{deployments, preview, rows};
use crate::access::audit;
use crate::caller::Caller;
use crate::db::{Connection, DbError, OptionalExtension as _, Value};
use crate::problem::Problem;
use crate::releases::again::{self, Outdated, OutdatedReleases};
use crate::releases::rows::ReleaseRow;

/// The goal of a rollout, as it is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Brings {
    /// A release, by its id.
    Release(i64),
    /// The image that each device ran before another rollout.
    Undo(RolloutId),
}

impl From<SpecError> for Problem {
    fn from(error: SpecError) -> Self {
        Self::invalid(error.to_string())
    }
}

fn missing(id: RolloutId) -> Problem {
    Problem::not_found(format_args!("rollout {}", id.0))
}

/// The goal of a rollout that brings this; which release that is, if it is one.
///
/// # Errors
/// When there is no such thing, or it is not to be brought to anybody.
pub fn goal(tx: &Connection, brings: Brings) -> Result<(Goal, Option<i64>), Problem> {
    match brings {
        Brings::Release(id) => {
            let sql = "SELECT image, yanked_at IS NOT NULL, coalesce(file, raw) IS NOT NULL FROM releases WHERE id = ?";
            let found: Option<([u8; 32], bool, bool)> =
                tx.query_row(sql, [id], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).optional()?;
            match found {
                None => Err(Problem::not_found(format_args!("release {id}"))),
                Some((_, true, _)) => Err(Problem::conflict(format!("release {id} was yanked"))),
                Some((_, _, false)) => Err(Problem::conflict(format!("release {id} has no file yet"))),
                Some((image, false, true)) => Ok((Goal::Image(Digest(image)), Some(id))),
            }
        }
        Brings::Undo(id) => {
            let kept = rows::get(tx, id)?.ok_or_else(|| missing(id))?;
            match kept.rollout.spec().goal {
                Goal::Image(image) => Ok((Goal::Undo { rollout: id, image }, None)),
                Goal::Undo { .. } => {
                    Err(Problem::invalid("a roll back cannot be undone; roll out the release again instead"))
                }
            }
        }
    }
}

/// Makes a rollout, as a draft or under way.
///
/// # Errors
/// When it makes no sense.
pub fn create(
    tx: &Connection,
    caller: &Caller,
    name: &str,
    release: Option<i64>,
    spec: RolloutSpec,
    draft: bool,
    now: Time,
) -> Result<(StoredRollout, Changes), Problem> {
    let name = crate::access::name::plain_name(name)?;
    let kept = rows::insert(tx, &name, release, &caller.name, now, |id| {
        Rollout::new(id, spec, now).map_err(Problem::from)
    })?;
    let id = kept.rollout.id();
    rows::note(tx, id, Some(&caller.name), &json!({"did": "create"}), now)?;
    audit::note(tx, caller, "rollout.create", &object(id), &json!({"name": name}), now)?;
    let changes = if draft { Changes::default() } else { control(tx, caller, id, Control::Start, now)? };
    let kept = rows::get(tx, id)?.ok_or_else(|| missing(id))?;
    Ok((kept, changes))
}

fn object(id: RolloutId) -> String {
    format!("rollout/{}", id.0)
}

/// Does something to a rollout.
///
/// # Errors
/// When it cannot be done now.
pub fn control(
    tx: &Connection,
    caller: &Caller,
    id: RolloutId,
    control: Control,
    now: Time,
) -> Result<Changes, Problem> {
    if control == Control::Start
        && let Some(kept) = rows::get(tx, id)?
        && let spec = kept.rollout.spec()
        && !(spec.continuous || is_ahead(spec.start_at, now))
        && let Some(devices) = &spec.target.devices
    {
        are_there(tx, devices)?;
    }
    // One that cannot be read says so.
    rows::get(tx, id)?;
    let mut transaction = RolloutTransaction::open(tx, now);
    match transaction.control(id, control)? {
        None => return Err(missing(id)),
        Some(Err(error)) => return Err(Problem::conflict(error.to_string())),
        Some(Ok(())) => {}
    }
    let changes = transaction.finish()?;
    rows::note(tx, id, Some(&caller.name), &json!({"did": control}), now)?;
    let action = match control {
        Control::Start => "rollout.start",
        Control::Pause => "rollout.pause",
        Control::Resume => "rollout.resume",
        Control::Advance => "rollout.advance",
        Control::Finish => "rollout.finish",
        Control::Abort { .. } => "rollout.abort",
        Control::Widen(_) => "rollout.widen",
        _ => "rollout.other",
    };
    audit::note(tx, caller, action, &object(id), &json!(control), now)?;
    Ok(changes)
}

/// Whether a rollout that is started at this moment waits for its time.
pub(super) fn is_ahead(start_at: Option<Time>, now: Time) -> bool {
    start_at.is_some_and(|at| at > now)
}

/// Devices that are looked up with one statement.
const AT_ONCE: usize = 500;

/// Looks whether a rollout that begins now, and ends by itself, names devices that would never be a part of it.
///
/// # Errors
/// When one of these devices does not exist, or is retired.
fn are_there(tx: &Connection, devices: &BTreeSet<DeviceId>) -> Result<(), Problem> {
    if devices.is_empty() {
        return Err(Problem::invalid(
            "`devices` names none; without it the rollout is for all that fit the rest",
        ));
    }
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

/// Gives a device that failed, was cancelled, or keeps going back, all its attempts anew.
///
/// # Errors
/// When there is nothing to try again, or another rollout comes first for the device.
pub fn retry(
    tx: &Connection,
    caller: &Caller,
    id: RolloutId,
    device: &DeviceId,
    force: bool,
    now: Time,
) -> Result<Changes, Problem> {
    let kept = rows::get(tx, id)?.ok_or_else(|| missing(id))?;
    let (deployment, _) = deployments::get(tx, id, device)?
        .ok_or_else(|| Problem::not_found(format_args!("deployment of {device} in rollout {}", id.0)))?;
    may_retry(&kept.rollout, deployment.stage())?;
    preview::has_file(tx, deployment.image(), device, 1)?;
    if let Some(first) = comes_first(tx, &kept.rollout, device)? {
        let text = format!("rollout {} comes first for {device}", first.0);
        return Err(Problem::conflict(text));
    }
    let mut transaction = RolloutTransaction::open(tx, now);
    transaction.event(id, device, &Event::Retry { force })?;
    let changes = transaction.finish()?;
    let did = json!({"did": "retry", "device": device, "force": force});
    rows::note(tx, id, Some(&caller.name), &did, now)?;
    audit::note(tx, caller, "rollout.retry", &object(id), &did, now)?;
    Ok(changes)
}

/// The release that a retry brings, if the device would refuse it as older than what it has had; with `force`, also if it may have
/// rolled it back.
pub fn to_be_signed_again(
    tx: &Connection,
    id: RolloutId,
    device: &DeviceId,
    force: bool,
) -> Result<OutdatedReleases, Problem> {
    let (Some(kept), Some((deployment, _))) = (rows::get(tx, id)?, deployments::get(tx, id, device)?) else {
        return Ok(OutdatedReleases::default());
    };
    // What cannot be tried again is told when it is tried.
    if may_retry(&kept.rollout, deployment.stage()).is_err() {
        return Ok(OutdatedReleases::default());
    }
    let (image, had) = (deployment.image(), again::had_by(tx, device.as_str())?);
    let release = ReleaseRow::of_image(tx, image)?.filter(|release| release.file.is_some());
    let barred = force && again::may_be_barred(tx, device.as_str(), image)?;
    let outdated =
        release.filter(|release| barred || release.sequence.is_some_and(|sequence| had > sequence));
    let outdated = outdated.map(|release| Outdated { release: release.id, had });
    Ok(OutdatedReleases::new(tx, [image].into(), outdated.into_iter().collect())?)
}

fn may_retry(rollout: &Rollout, stage: Stage) -> Result<(), Problem> {
    let Stage::Finished(outcome) = stage else {
        return Err(Problem::conflict("this deployment is not over"));
    };
    if !outcome.may_be_retried() {
        return Err(Problem::conflict(format!(
            "this deployment is {}: nothing to try again",
            outcome.as_str()
        )));
    }
    match rollout.phase() {
        Phase::Running | Phase::Paused | Phase::Stopped => Ok(()),
        phase => Err(Problem::conflict(format!("the rollout is {}", phase.as_str()))),
    }
}

/// A rollout with a deployment of the device that is not over, and that comes before this one.
fn comes_first(tx: &Connection, rollout: &Rollout, device: &DeviceId) -> Result<Option<RolloutId>, DbError> {
    for other in deployments::open_for_device(tx, device)? {
        let Some(kept) = rows::readable(tx, other)? else { continue };
        if !rollout.outranks(other, kept.rollout.spec().priority) {
            return Ok(Some(other));
        }
    }
    Ok(None)
}
