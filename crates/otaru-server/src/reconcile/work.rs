//! Carries on with rollouts: scans of the fleet, starts, moments that have come, ends.
//!
//! Each step is a bounded write that leaves the database such that the next can be taken by anybody, also after a crash. Only
//! where a scan stands is kept in memory: done again from its beginning it changes nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use otaru_rollout::{Control, DeviceId, Event, Phase, RolloutId, Time};
use serde_json::json;
use tokio::time::Instant;

use super::{ingest, sweep};
use crate::app::Shared;
use crate::cluster::leases::{Leased, Task};
use crate::db::{Connection, DbError};
use crate::problem::Problem;
use crate::releases::again::{self, When};
use crate::rollouts::transaction::{Changes, RolloutTransaction};
use crate::rollouts::{deployments, preview, rows};
use crate::told::Told;

/// Interval of looking at the clock.
const TICK: Duration = Duration::from_secs(1);
/// Interval at which every active deployment is ticked: the clock may have been set back.
const EVERY_ACTIVE: Duration = Duration::from_secs(3_600);
/// Interval of looking for old answers and for devices that went silent.
const HOUSEKEEPING: Duration = Duration::from_secs(60);
/// Devices in one write.
const BATCH: u32 = 250;
/// Devices that a rollout's start passes over because they do not start, until it is left for the next pass.
const MOST_PASSED: u32 = 10_000;
/// The pause after an error.
const PAUSE: Duration = Duration::from_secs(1);

/// Memory between passes; it may be lost.
#[derive(Debug, Default)]
pub struct Memory {
    /// Scan of each rollout that is under way, and the device it got to.
    scans: BTreeMap<RolloutId, (u32, Option<DeviceId>)>,
    /// In which phase a rollout's deployments were all told that it ends.
    closed: BTreeMap<RolloutId, Phase>,
    /// Time and reason of each rollout's last failure to begin.
    waiting: BTreeMap<RolloutId, (Instant, String)>,
}

/// Works until the server ends.
pub async fn run(app: Shared) {
    let mut memory = Memory::default();
    let (mut all_ticked, mut cleaned): (Option<Instant>, Option<Instant>) = (None, None);
    let mut failures = Told::default();
    // Who is there is not known before.
    while sweep::over(&app).await {
        let worked = async {
            if !app.holdings.has_task(Task::Rollouts) {
                // Whoever has it knows better by now.
                memory = Memory::default();
                return Ok(());
            }
            // What is wrong with rollouts keeps the rest from nothing.
            let passed = pass(&app, &mut memory).await;
            if all_ticked.is_none_or(|then| then.elapsed() >= EVERY_ACTIVE) {
                tick_all(&app).await?;
                all_ticked = Some(Instant::now());
            }
            if cleaned.is_none_or(|then| then.elapsed() >= HOUSEKEEPING) {
                clean(&app).await?;
                cleaned = Some(Instant::now());
            }
            passed
        };
        let worked = worked.await;
        if worked.is_ok() {
            failures.is_over();
        }
        if let Err(error) = worked
            && !app.stop.is_cancelled()
            && !matches!(error, DbError::NotHeld)
        {
            if !error.is_outage() && failures.is_due() {
                tracing::error!(%error, "rollouts cannot go on; trying again");
            }
            tokio::time::sleep(PAUSE).await;
        }
        tokio::select! {
            () = app.stop.cancelled() => return,
            () = app.wake.rollouts.notified() => {}
            () = tokio::time::sleep(TICK) => {}
        }
    }
}

/// Does everything that can be done now.
///
/// # Errors
/// Those of the database; the next pass goes on.
pub async fn pass(app: &Shared, memory: &mut Memory) -> Result<(), DbError> {
    due(app).await?;
    let alive = app.db.read(rows::alive).await?;
    memory.scans.retain(|id, _| alive.contains(id));
    memory.closed.retain(|id, _| alive.contains(id));
    memory.waiting.retain(|id, _| alive.contains(id));
    // What is wrong with one keeps no other up.
    let mut failed = Ok(());
    for id in alive {
        match carry_on(app, memory, id).await {
            Err(error) if error.is_outage() || matches!(error, DbError::NotHeld) => return Err(error),
            Err(error) => failed = failed.and(Err(error)),
            Ok(()) => {}
        }
    }
    failed
}

/// Carries on with one.
async fn carry_on(app: &Shared, memory: &mut Memory, id: RolloutId) -> Result<(), DbError> {
    if !begin(app, memory, id).await? {
        return Ok(());
    }
    tick(app, id).await?;
    close(app, memory, id).await?;
    scan(app, memory, id).await?;
    start(app, id).await.map(drop)
}

/// One write, and what there is to tell of it.
async fn write<T: Send + 'static>(
    app: &Shared,
    work: impl Fn(&Connection, Time) -> Result<(T, Changes), DbError> + Send + 'static,
) -> Result<T, DbError> {
    let now = app.clock.now();
    let claim = app.holdings.claim(Leased::Task(Task::Rollouts)).ok_or(DbError::NotHeld)?;
    let written = app.db.write(move |tx| {
        claim.check(tx)?;
        work(tx, now)
    });
    let (done, changes) = written.await?;
    changes.tell(app);
    Ok(done)
}

/// Begins a rollout whose time has come: what devices would refuse as older is signed again, as when an operator starts one. Says
/// whether the rollout can be carried on with; one that cannot begin says why, and is tried again after a while.
async fn begin(app: &Shared, memory: &mut Memory, id: RolloutId) -> Result<bool, DbError> {
    let now = app.clock.now();
    let Some(kept) = app.db.read(move |tx| rows::readable(tx, id)).await? else { return Ok(false) };
    let spec = kept.rollout.spec();
    if kept.rollout.phase() != Phase::Scheduled {
        return Ok(true);
    }
    if spec.start_at.is_some_and(|at| at > now) {
        // Until then nothing happens to it.
        return Ok(false);
    }
    if memory.waiting.get(&id).is_some_and(|(then, _)| then.elapsed() < HOUSEKEEPING) {
        return Ok(false);
    }
    let spec = spec.clone();
    let begun = async {
        // An earlier version may have taken what makes no sense.
        spec.validate()?;
        let found = app.db.read(move |tx| preview::outdated(tx, spec, now)).await?;
        let prepared = Arc::new(again::prepare(app, found, When::Now).await?);
        let to_apply = Arc::clone(&prepared);
        let done = app.db.write(move |tx| {
            to_apply.apply(tx, now)?;
            let mut transaction = RolloutTransaction::open(tx, now);
            let _ = transaction.control(id, Control::Tick)?;
            Ok::<_, Problem>(transaction.finish()?)
        });
        Ok::<_, Problem>((done.await?, prepared))
    };
    match begun.await {
        Ok((changes, prepared)) => {
            memory.waiting.remove(&id);
            changes.tell(app);
            prepared.tell(app);
            Ok(true)
        }
        Err(problem) => {
            let known = memory.waiting.insert(id, (Instant::now(), problem.detail.clone()));
            if known.is_none_or(|(_, why)| why != problem.detail) {
                tracing::warn!(rollout = id.0, why = %problem.detail, "a rollout cannot begin");
                let notice = json!({"notice": {"waits": problem.detail}});
                app.db.write(move |tx| rows::note(tx, id, None, &notice, now)).await?;
            }
            Ok(false)
        }
    }
}

async fn tick(app: &Shared, id: RolloutId) -> Result<(), DbError> {
    write(app, move |tx, now| {
        let mut transaction = RolloutTransaction::open(tx, now);
        // A tick is never declined.
        let _ = transaction.control(id, Control::Tick)?;
        Ok(((), transaction.finish()?))
    })
    .await
}

/// Deployments whose moment has come.
async fn due(app: &Shared) -> Result<(), DbError> {
    let by = app.clock.now();
    let mut after = None;
    loop {
        let from = after.clone();
        let last = write(app, move |tx, now| {
            let due = deployments::due(tx, by, from.as_ref(), BATCH)?;
            let mut transaction = RolloutTransaction::open(tx, now);
            for (_, rollout, device) in &due {
                transaction.event(*rollout, device, &Event::Tick)?;
            }
            Ok((due.last().cloned(), transaction.finish()?))
        });
        // What stays due, such as a row that cannot be read, keeps those behind it waiting no longer than this.
        match last.await? {
            None => return Ok(()),
            last => after = last,
        }
    }
}

/// All active deployments, whatever their moments say.
pub async fn tick_all(app: &Shared) -> Result<(), DbError> {
    let mut after = None;
    loop {
        let from = after.clone();
        let last = write(app, move |tx, now| {
            let active = deployments::active_after(tx, from.as_ref(), BATCH)?;
            let mut transaction = RolloutTransaction::open(tx, now);
            for (rollout, device) in &active {
                transaction.event(*rollout, device, &Event::Tick)?;
            }
            Ok((active.last().cloned(), transaction.finish()?))
        });
        match last.await? {
            None => return Ok(()),
            last => after = last,
        }
    }
}

/// Tells the deployments of a rollout that it ends.
async fn close(app: &Shared, memory: &mut Memory, id: RolloutId) -> Result<(), DbError> {
    let Some(kept) = app.db.read(move |tx| rows::readable(tx, id)).await? else { return Ok(()) };
    let phase = kept.rollout.phase();
    if !kept.rollout.closing_due() || memory.closed.get(&id) == Some(&phase) {
        return Ok(());
    }
    let mut after: Option<DeviceId> = None;
    loop {
        let from = after.clone();
        let last = write(app, move |tx, now| {
            let devices = deployments::open_in_rollout(tx, id, from.as_ref(), BATCH)?;
            let mut transaction = RolloutTransaction::open(tx, now);
            for device in &devices {
                transaction.end_without_file(id, device)?;
                transaction.event(id, device, &Event::Close)?;
            }
            Ok((devices.last().cloned(), transaction.finish()?))
        });
        match last.await? {
            None => break,
            last => after = last,
        }
    }
    memory.closed.insert(id, phase);
    Ok(())
}

/// Offers every device to a rollout that asked for it.
///
/// A large fleet takes minutes, and the first need not wait for the last: those that may start do so meanwhile. Gates wait for the end.
async fn scan(app: &Shared, memory: &mut Memory, id: RolloutId) -> Result<(), DbError> {
    let (mut looked, mut more): (Option<Instant>, bool) = (None, true);
    loop {
        let Some(kept) = app.db.read(move |tx| rows::readable(tx, id)).await? else { return Ok(()) };
        let Some(number) = kept.rollout.scan_due() else {
            memory.scans.remove(&id);
            return Ok(());
        };
        let (scan, after) = memory.scans.entry(id).or_insert((number, None));
        if *scan != number {
            (*scan, *after) = (number, None);
        }
        let from = after.clone();
        let last = write(app, move |tx, now| {
            let mut transaction = RolloutTransaction::open(tx, now);
            let last = transaction.admit_some(id, from.as_ref(), BATCH)?;
            if last.is_none() {
                let _ = transaction.control(id, Control::Scanned(number))?;
            }
            Ok((last, transaction.finish()?))
        });
        if let Some(last) = last.await? {
            *after = Some(last);
        }
        // After those that were just taken in as well, until no more may start.
        if more || looked.is_none_or(|then| then.elapsed() >= TICK) {
            more = start(app, id).await? > 0;
            looked = Some(Instant::now());
        }
    }
}

/// Starts as many devices as may. Returns how many those are.
async fn start(app: &Shared, id: RolloutId) -> Result<u32, DbError> {
    // Those that do not start, such as rows that cannot be read, stay in front of the others.
    let (mut all, mut passed) = (0, 0);
    loop {
        let started = write(app, move |tx, now| {
            let mut transaction = RolloutTransaction::open(tx, now);
            let Some(rollout) = transaction.look(id)? else { return Ok(((0, 0), Changes::default())) };
            let Ok(budget) = rollout.budget(now) else { return Ok(((0, 0), Changes::default())) };
            let (mut started, mut declined) = (0, 0);
            for device in deployments::ready(tx, rollout, passed, budget.min(BATCH), now)? {
                match transaction.start(id, &device)? {
                    true => started += 1,
                    false => declined += 1,
                }
            }
            Ok(((started, declined), transaction.finish()?))
        });
        let (started, declined) = started.await?;
        (all, passed) = (all + started, passed + declined);
        if (started, declined) == (0, 0) || passed > MOST_PASSED {
            return Ok(all);
        }
    }
}

async fn clean(app: &Shared) -> Result<(), DbError> {
    let now = app.clock.now();
    app.db
        .write(move |tx| {
            crate::idempotency::prune(tx, now)?;
            crate::db::growth::prune(tx, now)
        })
        .await?;
    ingest::polled_long_ago(app).await
}
