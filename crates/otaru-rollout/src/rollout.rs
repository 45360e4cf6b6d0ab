//! A rollout: the small state that all its deployments share.

use otaru_format::digest::Digest;
use serde::{Deserialize, Serialize};

use crate::effect::{Effect, Notice};
use crate::held::Held;
use crate::ids::RolloutId;
use crate::rate::RecentStarts;
use crate::spec::{Goal, RolloutSpec, SpecError, Wave};
use crate::stage::Outcome;
use crate::tally::{Standing, Tally, Verdicts};
use crate::time::Time;

/// Phase of a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Not begun.
    Draft,
    /// Begins at its time.
    Scheduled,
    /// Devices are admitted and started.
    Running,
    /// An operator holds it: nothing starts.
    Paused,
    /// The stop rule holds it: nothing starts.
    Stopped,
    /// Nothing starts any more; it completes when what is under way has ended.
    Finishing,
    /// Over.
    Completed,
    /// Given up by an operator; nothing starts any more.
    Aborted {
        /// Whether what was under way is cancelled, as far as devices still can.
        cancel: bool,
    },
}

impl Phase {
    /// All of them; [`Aborted`](Self::Aborted) once.
    pub const ALL: [Self; 8] = [
        Self::Draft,
        Self::Scheduled,
        Self::Running,
        Self::Paused,
        Self::Stopped,
        Self::Finishing,
        Self::Completed,
        Self::Aborted { cancel: false },
    ];

    /// Returns the name. It is the same in JSON, but for the details of [`Aborted`](Self::Aborted).
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Draft => "draft",
            Self::Scheduled => "scheduled",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
            Self::Finishing => "finishing",
            Self::Completed => "completed",
            Self::Aborted { .. } => "aborted",
        }
    }

    /// Returns the phase of this name, if there is one.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|phase| phase.as_str() == name)
    }

    /// Whether devices may still join, and failed ones be queued again.
    pub fn is_open(self) -> bool {
        matches!(self, Self::Running | Self::Paused | Self::Stopped)
    }
}

/// State of the gate between the open wave and the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GateState {
    /// The wave is not settled yet.
    Working,
    /// It has been settled and good since then.
    Soaking(Time),
    /// It is settled, and not good enough to go on by itself.
    Held(Held),
}

/// A rollout's state. One row of a server's table; its size does not depend on the fleet's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollout {
    pub(crate) id: RolloutId,
    pub(crate) spec: RolloutSpec,
    pub(crate) phase: Phase,
    /// The open wave; all before it are open too.
    pub(crate) wave: usize,
    pub(crate) opened_at: Time,
    pub(crate) gate: GateState,
    /// The number of the last scan of the fleet that was asked for.
    pub(crate) scan: u32,
    /// Whether it is done.
    pub(crate) scanned: bool,
    /// One for each wave, the last included.
    pub(crate) tallies: Vec<Tally>,
    /// Verdicts that an operator knew of when they resumed a stopped rollout: they do not count again.
    pub(crate) forgiven: Vec<Verdicts>,
    pub(crate) recent: RecentStarts,
}

impl Rollout {
    /// A draft.
    ///
    /// # Errors
    /// Returns an error if the specification contradicts itself, or a number in it is out of bounds.
    pub fn new(id: RolloutId, spec: RolloutSpec, now: Time) -> Result<Self, SpecError> {
        spec.validate()?;
        let waves = spec.waves.len() + 1;
        Ok(Self {
            id,
            spec,
            phase: Phase::Draft,
            wave: 0,
            opened_at: now,
            gate: GateState::Working,
            scan: 0,
            scanned: false,
            tallies: vec![Tally::default(); waves],
            forgiven: vec![Verdicts::default(); waves],
            recent: RecentStarts::default(),
        })
    }

    /// Id.
    pub fn id(&self) -> RolloutId {
        self.id
    }

    /// The specification.
    pub fn spec(&self) -> &RolloutSpec {
        &self.spec
    }

    /// Returns the phase.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// The open wave's index, from 0. Devices of this wave and of earlier ones may start.
    pub fn wave(&self) -> usize {
        self.wave
    }

    /// State of the gate between the open wave and the next.
    pub fn gate(&self) -> GateState {
        self.gate
    }

    /// Numbers of deployments by standing, for each wave.
    pub fn tallies(&self) -> &[Tally] {
        &self.tallies
    }

    /// The scan of the fleet that is still to be done: after a restart, a server goes on with it.
    pub fn scan_due(&self) -> Option<u32> {
        (self.phase.is_open() && !self.scanned).then_some(self.scan)
    }

    /// Whether deployments are still to be closed: after a restart, a server goes on with it.
    pub fn closing_due(&self) -> bool {
        matches!(self.phase, Phase::Finishing | Phase::Aborted { .. })
            && self.tallies.iter().any(|tally| tally.open() > 0)
    }

    /// Deployments under way.
    pub fn active(&self) -> u32 {
        self.tallies.iter().map(|tally| tally.active).sum()
    }

    /// Deployments that are not over.
    pub fn open(&self) -> u32 {
        self.tallies.iter().map(Tally::open).sum()
    }

    /// Verdicts so far.
    pub fn verdicts(&self) -> Verdicts {
        self.tallies.iter().map(Tally::verdicts).fold(Verdicts::default(), Verdicts::plus)
    }

    /// Whether so many devices try the image again that the stop rule would be broken if they failed. Nothing starts then.
    pub fn is_held_by_retries(&self) -> bool {
        self.open_retries() > 0 && self.breaks_stop_rule(Tally::feared).is_some()
    }

    fn open_retries(&self) -> u32 {
        self.tallies.iter().map(|tally| tally.retrying).sum()
    }

    /// The verdicts, read by `count`, that break the stop rule: those of a wave, or of all.
    pub(crate) fn breaks_stop_rule(&self, count: impl Fn(&Tally) -> Verdicts) -> Option<Verdicts> {
        let rule = self.spec.stop?;
        let waves = self.tallies.iter().zip(&self.forgiven);
        let news: Vec<Verdicts> = waves.map(|(tally, known)| count(tally).after(*known)).collect();
        let whole = news.iter().copied().fold(Verdicts::default(), Verdicts::plus);
        let breaks = |v: &Verdicts| v.all() >= rule.minimum && rule.failures.is_reached(v.bad, v.all());
        news.into_iter().chain([whole]).find(breaks)
    }

    /// Whether this one comes before another for a device that both are for: the higher priority, then the newer.
    pub fn outranks(&self, rollout: RolloutId, priority: i32) -> bool {
        (self.spec.priority, self.id) > (priority, rollout)
    }

    /// Returns the open wave, with the gate behind it; `None` for the last.
    pub(crate) fn open_wave(&self) -> Option<&Wave> {
        self.spec.waves.get(self.wave)
    }

    pub(crate) fn tally(&self, wave: usize) -> Tally {
        self.tallies.get(wave).copied().unwrap_or_default()
    }

    /// A deployment of this wave came to stand elsewhere; `from` is `None` when it is new.
    pub(crate) fn moved(&mut self, wave: usize, from: Option<Standing>, to: Standing) {
        let Some(tally) = self.tallies.get_mut(wave) else { return };
        if let Some(from) = from {
            tally.leave(from);
        }
        tally.enter(to);
        // A verdict that is taken back is no longer one that is known.
        if let (Some(Standing::Finished(outcome)), Some(known)) = (from, self.forgiven.get_mut(wave)) {
            known.bad = known.bad.saturating_sub(u32::from(outcome.is_failure()));
            known.good = known.good.saturating_sub(u32::from(outcome == Outcome::Succeeded));
        }
    }

    /// The image a device shall run. `before` is what it ran before the rollout that is undone.
    pub(crate) fn image_for(&self, before: Option<Digest>) -> Option<Digest> {
        match self.spec.goal {
            Goal::Image(image) => Some(image),
            Goal::Undo { .. } => before,
        }
    }

    pub(crate) fn begin(&mut self, now: Time, effects: &mut Vec<Effect>) {
        self.phase = Phase::Running;
        self.opened_at = now;
        effects.push(Effect::Notice(Notice::Started));
        effects.push(Effect::Notice(Notice::WaveOpened(0)));
        self.rescan(effects);
    }

    pub(crate) fn rescan(&mut self, effects: &mut Vec<Effect>) {
        self.scan = self.scan.wrapping_add(1);
        self.scanned = false;
        effects.push(Effect::Scan { scan: self.scan });
    }
}
