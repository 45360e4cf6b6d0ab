//! Controls of a rollout: by operators, the calendar and the server's scan.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::effect::Effect;
use crate::gate;
use crate::percent::Percent;
use crate::rollout::{Phase, Rollout};
use crate::spec::SpecError;
use crate::time::Time;

/// Something that happens to a rollout as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Control {
    /// Begin, or wait for the time to begin.
    Start,
    /// Start nothing until resumed. What is under way goes on.
    Pause,
    /// Go on. After a stop, what is known by now does not stop it again.
    Resume,
    /// Open the next wave now.
    Advance,
    /// Start nothing more, and complete when what is under way has ended.
    Finish,
    /// Give up.
    Abort {
        /// Also cancel what is under way.
        cancel: bool,
    },
    /// Take a larger share of the target.
    Widen(Percent),
    /// The scan with this number is done: every device of the fleet was offered to `admit`.
    Scanned(u32),
    /// Time has passed.
    Tick,
}

/// Why a rollout cannot do what was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ControlError {
    /// Not in this phase.
    Phase(Phase),
    /// There is no next wave.
    LastWave,
    /// The share is not larger than it was.
    NotWider,
    /// Its specification makes no sense: an earlier version took it.
    Spec(SpecError),
}

impl fmt::Display for ControlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Phase(phase) => write!(f, "the rollout is {}", words(*phase)),
            Self::LastWave => f.write_str("the last wave is open already"),
            Self::NotWider => {
                f.write_str("a rollout's share can only grow: devices that have begun stay in it")
            }
            Self::Spec(error) => write!(f, "{error}; make the rollout anew"),
        }
    }
}

impl std::error::Error for ControlError {}

/// Names a phase in a sentence.
fn words(phase: Phase) -> &'static str {
    match phase {
        Phase::Draft => "not started",
        phase => phase.as_str(),
    }
}

impl Rollout {
    /// Takes what happens to the rollout as a whole.
    ///
    /// # Errors
    /// Returns an error if the rollout does not allow this now; it is then unchanged.
    pub fn step(&mut self, control: Control, now: Time) -> Result<Vec<Effect>, ControlError> {
        let mut effects = Vec::new();
        self.control(control, now, &mut effects)?;
        gate::evaluate(self, now, &mut effects);
        Ok(effects)
    }

    fn control(
        &mut self,
        control: Control,
        now: Time,
        effects: &mut Vec<Effect>,
    ) -> Result<(), ControlError> {
        match (control, self.phase) {
            (Control::Tick, _) => {}
            (Control::Scanned(scan), _) => self.scanned |= scan == self.scan,
            // Whether its time has come is decided with everything else.
            (Control::Start, Phase::Draft) => {
                self.spec.validate().map_err(ControlError::Spec)?;
                self.phase = Phase::Scheduled;
            }
            (Control::Pause, Phase::Running) => self.phase = Phase::Paused,
            (Control::Resume, Phase::Paused) => self.phase = Phase::Running,
            (Control::Resume, Phase::Stopped) => {
                self.forgiven = self.tallies.iter().map(|tally| tally.verdicts()).collect();
                self.phase = Phase::Running;
            }
            (Control::Advance, Phase::Running) if self.open_wave().is_none() => {
                return Err(ControlError::LastWave);
            }
            (Control::Advance, Phase::Running) => gate::open_next(self, now, effects),
            (Control::Finish, phase) if phase.is_open() => self.close(Phase::Finishing, effects),
            (Control::Abort { cancel }, phase) if may_abort(phase, cancel) => {
                self.close(Phase::Aborted { cancel }, effects);
            }
            (Control::Widen(share), phase) if phase.is_open() || phase == Phase::Scheduled => {
                self.widen(share, effects)?;
            }
            (_, phase) => return Err(ControlError::Phase(phase)),
        }
        Ok(())
    }

    fn close(&mut self, phase: Phase, effects: &mut Vec<Effect>) {
        self.phase = phase;
        effects.push(Effect::CloseAll);
    }

    fn widen(&mut self, share: Percent, effects: &mut Vec<Effect>) -> Result<(), ControlError> {
        if share <= self.spec.target.percent {
            return Err(ControlError::NotWider);
        }
        self.spec.target.percent = share;
        if self.phase.is_open() {
            self.rescan(effects);
        }
        Ok(())
    }
}

/// Whoever aborted without cancelling may still cancel; there is no way back.
fn may_abort(phase: Phase, cancel: bool) -> bool {
    match phase {
        Phase::Completed => false,
        Phase::Aborted { cancel: before } => cancel && !before,
        _ => true,
    }
}
