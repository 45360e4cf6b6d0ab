//! Starts: how many devices may, which of them, and the start itself.

use std::fmt;

use crate::deployment::Deployment;
use crate::effect::Effect;
use crate::ids::{DeviceId, RolloutId};
use crate::occupancy::Occupancy;
use crate::rollout::{GateState, Phase, Rollout};
use crate::spec::Gate;
use crate::step::DeploymentStep;
use crate::time::Time;

/// Why nothing, or not this one, starts now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotNow {
    /// The rollout does not run.
    Phase(Phase),
    /// The window is closed until then.
    Window(Time),
    /// As many as may are under way.
    Concurrency,
    /// As many as may in a minute have started; there is room again then.
    Rate(Time),
    /// The deployment is not queued, or its device is away.
    NotReady,
    /// It pauses until then, after an attempt that failed.
    Backoff(Time),
    /// The deployment's wave is not open.
    Wave,
    /// Too many devices try the image again that did not reach the broker.
    Retries,
    /// The device has an active deployment, in this rollout.
    Occupied(RolloutId),
}

impl fmt::Display for NotNow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Phase(_) => "the rollout does not run",
            Self::Window(_) => "the window is closed",
            Self::Concurrency => "as many devices as may are updating",
            Self::Rate(_) => "as many devices as may in a minute have started",
            Self::NotReady => "the deployment is not queued, or its device is away",
            Self::Backoff(_) => "it pauses after an attempt that failed",
            Self::Wave => "its wave is not open",
            Self::Retries => "too many devices try the image again that did not reach the broker",
            Self::Occupied(_) => "the device is updating for another rollout",
        })
    }
}

impl std::error::Error for NotNow {}

impl Rollout {
    /// Number of devices that may start now.
    ///
    /// # Errors
    /// Why none may.
    pub fn budget(&self, now: Time) -> Result<u32, NotNow> {
        if self.phase != Phase::Running {
            return Err(NotNow::Phase(self.phase));
        }
        if self.is_held_by_retries() {
            return Err(NotNow::Retries);
        }
        let limits = &self.spec.limits;
        if let Some(window) = limits.window.filter(|window| !window.is_open(now)) {
            return Err(NotNow::Window(window.next_open(now)));
        }
        let room = limits.concurrency.map_or(u32::MAX, |most| most.saturating_sub(self.active()));
        let rate = limits.starts_per_minute.map_or(u32::MAX, |most| self.recent.left(most, now));
        match room.min(rate) {
            0 if room == 0 => Err(NotNow::Concurrency),
            0 => Err(NotNow::Rate(self.recent.next_free(now))),
            starts => Ok(starts),
        }
    }

    /// Selects those of these that may start now, best first, no more than the budget has: earlier waves, then devices with fewer
    /// starts, then by position.
    ///
    /// A database does most of this: queued deployments whose device is reachable, of the open wave and those before it,
    /// whose pause is over (or lies further ahead than the longest, after the clock was set back), in the order of wave, starts
    /// and position; as many as the budget has, and some more for those whose device is occupied. `occupied` says which are.
    pub fn select<'a>(
        &self,
        candidates: impl IntoIterator<Item = (&'a Deployment, Occupancy)>,
        now: Time,
    ) -> Vec<&'a DeviceId> {
        let Ok(budget) = self.budget(now) else { return Vec::new() };
        let mut able: Vec<&Deployment> = candidates
            .into_iter()
            .filter(|(deployment, occupancy)| self.may_start(deployment, *occupancy, now).is_ok())
            .map(|(deployment, _)| deployment)
            .collect();
        able.sort_by_key(|deployment| (deployment.wave, deployment.starts, deployment.position));
        able.truncate(usize::try_from(budget).unwrap_or(usize::MAX));
        able.into_iter().map(Deployment::device).collect()
    }

    fn may_start(&self, deployment: &Deployment, occupancy: Occupancy, now: Time) -> Result<(), NotNow> {
        if deployment.rollout != self.id || !deployment.is_ready() {
            return Err(NotNow::NotReady);
        }
        if deployment.wave > self.wave {
            return Err(NotNow::Wave);
        }
        if let Some(rollout) = occupancy.active {
            return Err(NotNow::Occupied(rollout));
        }
        let longest = now + self.spec.attempts.max_backoff;
        match deployment.not_before {
            // Beyond the longest pause only a clock that was set back can be to blame.
            Some(then) if then > now && then <= longest => Err(NotNow::Backoff(then)),
            _ => Ok(()),
        }
    }

    /// Returns the time to feed [`Control::Tick`](crate::Control::Tick), or to look for devices to start, though nothing happens.
    /// Deployments have moments of their own: [`Deployment::wake_at`].
    pub fn wake_at(&self, now: Time) -> Option<Time> {
        let start = self.spec.start_at.filter(|_| self.phase == Phase::Scheduled);
        let end = self.spec.end_at.filter(|_| self.phase.is_open());
        let room = match self.budget(now) {
            Err(NotNow::Window(then) | NotNow::Rate(then)) => Some(then),
            _ => None,
        };
        let gate = match (self.phase, self.open_wave().map(|wave| wave.gate), self.gate) {
            (Phase::Running, Some(Gate::Auto(auto)), GateState::Soaking(since)) => Some(since + auto.soak),
            (Phase::Running, Some(Gate::Auto(auto)), _) => Some(self.opened_at + auto.patience),
            _ => None,
        };
        [start, end, room, gate].into_iter().flatten().filter(|then| *then > now).min()
    }
}

impl DeploymentStep<'_> {
    /// Starts the deployment: the device is offered its image.
    ///
    /// # Errors
    /// Why it may not now; nothing has changed then.
    pub fn start(&mut self, now: Time) -> Result<Vec<Effect>, NotNow> {
        self.rollout.budget(now)?;
        self.rollout.may_start(self.deployment, *self.occupancy, now)?;
        let from = self.deployment.standing();
        let offer = self.deployment.begin(&self.rollout.spec, now);
        self.rollout.moved(self.deployment.wave, Some(from), self.deployment.standing());
        self.rollout.recent.count(now);
        self.occupancy.active = Some(self.rollout.id);
        Ok(vec![offer])
    }
}
