//! News among the servers of a database, read and told: ends of credentials, what they let pass of the fleet's limits, and
//! changes for those who watch.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use otaru_api::Event;
use otaru_rollout::{DeviceId, RolloutId};
use tokio::sync::broadcast::error::RecvError;

use crate::app::Shared;
use crate::cluster::notices::{self, Notice};
use crate::db::{Connection, DbError};
use crate::devices::rows as devices;
use crate::rollouts::rows as rollouts;

/// Interval of reading: an end counts on every server within a second.
const READ: Duration = Duration::from_millis(400);
/// Time without reading after which counts that others told are too old to be counted as of now.
const FRESH: Duration = Duration::from_secs(10);
/// Interval at which changes are told, and what was let pass.
const TELL: Duration = Duration::from_millis(500);
/// Devices in one notice; the others are in the next.
const MOST: usize = 1_000;
/// Devices that wait to be told; more are told when they change again.
const WAITING: usize = 100_000;

/// Reads what others tell, from this notice on, until the server ends.
pub(super) async fn listen(app: Shared, mut last: i64) {
    let me = app.db.writer_id().to_owned();
    let mut read = Instant::now();
    loop {
        tokio::select! {
            () = app.stop.cancelled() => return,
            () = tokio::time::sleep(READ) => {}
        }
        let from = me.clone();
        // While the database does not answer, nobody can tell anything.
        let Ok(news) = app.db.read(move |tx| notices::after(tx, &from, last)).await else { continue };
        last = news.last;
        if news.missed {
            tracing::warn!(
                "ends of credentials were missed while the database was away; all are looked up anew"
            );
            app.tokens.forget_all();
            app.recent.forget_all();
        }
        let is_fresh = read.elapsed() < FRESH;
        read = Instant::now();
        follow(&app, news.notices, is_fresh).await;
    }
}

/// Follows what others did: ends of credentials first, and what is only shown afterwards, all at once. Counts that are not fresh are passed over:
/// they stood for a moment that has passed.
async fn follow(app: &Shared, notices: Vec<Notice>, is_fresh: bool) {
    let (mut changed, mut phases) = (BTreeSet::new(), BTreeSet::new());
    for notice in notices {
        match notice {
            Notice::Token(id) => {
                app.tokens.forget(&id);
                app.connections.end_token(&id);
            }
            Notice::Devices(devices) => app.connections.end_devices(devices),
            Notice::Retired(device) => app.connections.retire(&app.config.base, &device),
            Notice::Passed(passed) if is_fresh => app.login_rates.passed_elsewhere(passed, app.clock.now()),
            Notice::Passed(_) => {}
            Notice::Changed { devices, rollouts } => {
                changed.extend(devices);
                phases.extend(rollouts);
            }
        }
    }
    // What this server took in last of them is not what is known of them now.
    changed.iter().for_each(|device| app.recent.forget(&DeviceId::from(device.as_str())));
    if app.events.is_heard() {
        let told = app.db.read(move |tx| events(tx, &changed, &phases)).await;
        told.unwrap_or_default().into_iter().for_each(|event| app.events.retell(event));
    }
}

/// Returns what there is to say of devices and rollouts that another server changed.
fn events(
    tx: &Connection,
    changed: &BTreeSet<String>,
    phases: &BTreeSet<u64>,
) -> Result<Vec<Event>, DbError> {
    let mut events = Vec::new();
    for id in phases {
        if let Some(kept) = rollouts::readable(tx, RolloutId(*id))? {
            events.push(Event::Rollout { id: *id, phase: kept.rollout.phase().as_str().to_owned() });
        }
    }
    for id in changed {
        if let Some(device) = devices::get(tx, &DeviceId::from(id.as_str()))? {
            let (id, state, version, reachable) = (device.id, device.state, device.version, device.reachable);
            events.push(Event::Device { id, state, version, reachable, progress: None, next_trial: None });
        }
    }
    Ok(events)
}

/// Tells others what changed here, until the server ends.
pub(super) async fn tell(app: Shared) {
    let (mut own, mut waiting) = (app.events.listen_to_own(), Waiting::default());
    let mut next = tokio::time::interval(TELL);
    next.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = app.stop.cancelled() => return,
            event = own.recv() => match event {
                Ok(event) => waiting.note(event),
                // Devices that changed so often change again.
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            },
            _ = next.tick() => {
                let passed = Some(app.login_rates.take_untold()).filter(|passed| !passed.is_empty());
                let all: Vec<Notice> = passed.map(Notice::Passed).into_iter().chain(waiting.next()).collect();
                if all.is_empty() {
                    continue;
                }
                // Lost, a page is older than it could be until the next, and each server counts for itself for so long.
                let written = app.db.write(move |tx| all.iter().try_for_each(|notice| notices::write(tx, notice)));
                if let Err(error) = written.await {
                    tracing::debug!(%error, "changes are not told to other servers");
                }
            }
        }
    }
}

#[derive(Debug, Default)]
struct Waiting {
    devices: BTreeSet<String>,
    rollouts: BTreeSet<u64>,
}

impl Waiting {
    fn note(&mut self, event: Event) {
        match event {
            Event::Device { id, .. } | Event::Deployment { device: id, .. }
                if self.devices.len() < WAITING =>
            {
                self.devices.insert(id);
            }
            Event::Rollout { id, .. } => {
                self.rollouts.insert(id);
            }
            _ => {}
        }
    }

    /// Takes what fits one notice.
    fn next(&mut self) -> Option<Notice> {
        if self.devices.is_empty() && self.rollouts.is_empty() {
            return None;
        }
        let devices: Vec<String> = (0..MOST).map_while(|_| self.devices.pop_first()).collect();
        let rollouts = std::mem::take(&mut self.rollouts).into_iter().collect();
        Some(Notice::Changed { devices, rollouts })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_told_in_parts() {
        let mut waiting = Waiting::default();
        let device = |n: usize| Event::Deployment {
            rollout: 1,
            device: format!("d{n:06}"),
            standing: "active".into(),
        };
        (0..WAITING + 50).for_each(|n| waiting.note(device(n)));
        (0..WAITING + 50).for_each(|n| waiting.note(device(n)));
        waiting.note(Event::Rollout { id: 1, phase: "running".into() });
        let mut told = BTreeSet::new();
        let mut notices = 0;
        while let Some(Notice::Changed { devices, .. }) = waiting.next() {
            assert!(devices.len() <= MOST);
            told.extend(devices);
            notices += 1;
        }
        assert_eq!((told.len(), notices), (WAITING, WAITING / MOST), "each once");
    }
}
