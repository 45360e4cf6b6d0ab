//! Specification of a rollout: its target, waves, limits and rules.

use std::fmt;

use otaru_format::digest::Digest;
use serde::{Deserialize, Serialize};

use crate::ids::RolloutId;
use crate::percent::Percent;
use crate::target::{MAX_LIST, Target};
use crate::time::{Span, Time};
use crate::window::Window;

/// The most waves before the last.
pub const MAX_WAVES: usize = 16;
/// The most attempts a device may be given.
pub const MAX_ATTEMPTS: u32 = 10;
/// Bytes of the longest salt.
pub const MAX_SALT: usize = 64;

/// A rollout, as it is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RolloutSpec {
    /// Image that devices shall run.
    pub goal: Goal,
    /// Devices it is for.
    #[serde(default)]
    pub target: Target,
    /// Shuffles the fleet for percentages. Give two rollouts the same salt and they draw the same devices.
    #[serde(default)]
    pub salt: String,
    /// Of several rollouts for a device, the one with the highest number has it; of equal ones the newest.
    #[serde(default)]
    pub priority: i32,
    /// The waves before the last. The last needs no entry: it has whoever is in none of these.
    #[serde(default)]
    pub waves: Vec<Wave>,
    /// Limits: how many at once, how many a minute, and when.
    #[serde(default)]
    pub limits: Limits,
    /// Rule that stops it automatically.
    #[serde(default)]
    pub stop: Option<StopRule>,
    /// Time and number of a device's attempts.
    #[serde(default)]
    pub attempts: Attempts,
    /// Not before this.
    #[serde(default)]
    pub start_at: Option<Time>,
    /// Devices that have not begun by then are given up.
    #[serde(default)]
    pub end_at: Option<Time>,
    /// Never completes by itself: whatever device joins the target gets the goal.
    #[serde(default)]
    pub continuous: bool,
    /// Offers are made with `force`: also other projects, and what failed before.
    #[serde(default)]
    pub force: bool,
}

/// Image that devices shall run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// The image with this digest.
    Image(Digest),
    /// The image that each device ran before another rollout gave it one: a roll back of the fleet.
    Undo {
        /// That rollout.
        rollout: RolloutId,
        /// The image it gave. Devices that do not run it are not touched.
        image: Digest,
    },
}

/// A wave: the devices that are served before the next ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Wave {
    /// Devices in it.
    pub size: WaveSize,
    /// Gate to the next one.
    #[serde(default)]
    pub gate: Gate,
}

/// Devices in a wave and in none before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum WaveSize {
    /// So many devices, the first that are admitted.
    Devices(u32),
    /// The first so many per cent of the target, those of earlier waves by percentage included: 1, 10, 50.
    Percent(Percent),
}

/// Gate to the next wave.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "schema", schema(as = WaveGate))]
#[serde(rename_all = "snake_case")]
pub enum Gate {
    /// An operator.
    #[default]
    Hand,
    /// Success, for long enough.
    Auto(AutoGate),
}

/// Conditions on which the next wave opens automatically.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct AutoGate {
    /// At least this share of the wave's verdicts must be successes.
    pub success: Percent,
    /// Time for which the wave must have been settled and good.
    #[serde(default)]
    pub soak: Span,
    /// Time after its opening for which a wave waits for devices that are away before it is judged without them.
    #[serde(default)]
    pub patience: Span,
}

/// Limits on starts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// The most devices that update at the same time.
    pub concurrency: Option<u32>,
    /// The most starts within any 60 seconds.
    pub starts_per_minute: Option<u32>,
    /// Time window in which updates may start; one that has started may go on after it.
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>, example = "22:00-06:00 +02:00"))]
    pub window: Option<Window>,
}

/// Rule that stops a rollout automatically. It is held against each wave and against the rollout as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct StopRule {
    /// Stop when at least this share of the verdicts are failures…
    pub failures: Percent,
    /// Smallest number of verdicts for which the rule holds.
    pub minimum: u32,
}

/// Time and number of a device's attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Attempts {
    /// Time that one attempt may take, from the offer to the confirmed image.
    pub timeout: Span,
    /// Number of attempts, the first included; at most 10 (`MAX_ATTEMPTS`).
    pub count: u32,
    /// The pause after the first; each further one is twice as long.
    pub backoff: Span,
    /// The longest pause.
    pub max_backoff: Span,
}

impl Default for Attempts {
    /// Three attempts of an hour, with pauses of 5 and 10 minutes.
    fn default() -> Self {
        Self { timeout: Span::hours(1), count: 3, backoff: Span::minutes(5), max_backoff: Span::hours(6) }
    }
}

impl Attempts {
    /// The pause after this many attempts.
    pub(crate) fn pause(&self, attempts: u32) -> Span {
        self.backoff.doubled(attempts.saturating_sub(1)).min(self.max_backoff)
    }
}

/// Error of a specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SpecError {
    /// There are more than [`MAX_WAVES`].
    TooManyWaves,
    /// The wave with this index, from 0, would always be empty.
    EmptyWave(usize),
    /// A share of the target of 0 %, rounded to 0.01 %.
    ShareOfZero,
    /// The explicit list has more than [`MAX_LIST`] devices.
    ListTooLong,
    /// The salt has more than [`MAX_SALT`] bytes.
    SaltTooLong,
    /// A limit of 0, with which nothing would ever start.
    LimitOfZero,
    /// A stop rule with a minimum or a share of 0, which would stop at the first success.
    StopOfZero,
    /// No attempt, or more than [`MAX_ATTEMPTS`], or no time for it.
    Attempts,
    /// It would end before it starts.
    EndsBeforeStart,
}

impl fmt::Display for SpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooManyWaves => {
                write!(f, "at most {MAX_WAVES} waves may be given; the last comes by itself")
            }
            Self::EmptyWave(wave) => write!(
                f,
                "wave {} has nobody: sizes must be above 0, and percentages rise because they include earlier ones",
                wave + 1
            ),
            Self::ShareOfZero => {
                f.write_str("a share of 0 % of the target is nobody; the smallest share is 0.01 %")
            }
            Self::ListTooLong => write!(f, "a list may have {MAX_LIST} devices; give more of them a tag"),
            Self::SaltTooLong => write!(f, "a salt may have {MAX_SALT} bytes"),
            Self::LimitOfZero => {
                f.write_str("with a limit of 0 nothing would start; pause the rollout instead")
            }
            Self::StopOfZero => f.write_str("a stop rule needs a share and a minimum above 0"),
            Self::Attempts => {
                write!(f, "a device may have 1 to {MAX_ATTEMPTS} attempts, and each needs a timeout above 0")
            }
            Self::EndsBeforeStart => f.write_str("the rollout would end before it starts"),
        }
    }
}

impl std::error::Error for SpecError {}

impl RolloutSpec {
    /// Checks what the types cannot.
    ///
    /// # Errors
    /// The first thing that makes no sense.
    pub fn validate(&self) -> Result<(), SpecError> {
        self.validate_waves()?;
        let limits = [self.limits.concurrency, self.limits.starts_per_minute];
        let attempts = &self.attempts;
        let checks = [
            (self.target.percent == Percent::NONE, SpecError::ShareOfZero),
            (self.target.devices.as_ref().is_some_and(|list| list.len() > MAX_LIST), SpecError::ListTooLong),
            (self.salt.len() > MAX_SALT, SpecError::SaltTooLong),
            (limits.contains(&Some(0)), SpecError::LimitOfZero),
            (
                self.stop.is_some_and(|stop| stop.minimum == 0 || stop.failures == Percent::NONE),
                SpecError::StopOfZero,
            ),
            (
                !(1..=MAX_ATTEMPTS).contains(&attempts.count) || attempts.timeout == Span::ZERO,
                SpecError::Attempts,
            ),
            (
                self.end_at.is_some_and(|end| end <= self.start_at.unwrap_or(Time(0))),
                SpecError::EndsBeforeStart,
            ),
        ];
        checks.into_iter().find(|(wrong, _)| *wrong).map_or(Ok(()), |(_, error)| Err(error))
    }

    fn validate_waves(&self) -> Result<(), SpecError> {
        if self.waves.len() > MAX_WAVES {
            return Err(SpecError::TooManyWaves);
        }
        let mut reached = Percent::NONE;
        for (index, wave) in self.waves.iter().enumerate() {
            match wave.size {
                WaveSize::Devices(0) => return Err(SpecError::EmptyWave(index)),
                WaveSize::Devices(_) => {}
                WaveSize::Percent(share) if share <= reached => return Err(SpecError::EmptyWave(index)),
                WaveSize::Percent(share) => reached = share,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(json: &str) -> RolloutSpec {
        let goal = format!(r#"{{"goal": {{"image": "{}"}}, {json}}}"#, Digest::of(b"x"));
        serde_json::from_str(&goal).unwrap()
    }

    #[test]
    fn a_full_specification() {
        let spec = spec(
            r#""waves": [{"size": {"devices": 5}}, {"size": {"percent": 10},
                "gate": {"auto": {"success": 95, "soak": 3600000}}}],
               "limits": {"concurrency": 50, "starts_per_minute": 20, "window": "22:00-06:00 +02:00"},
               "stop": {"failures": 5, "minimum": 20}, "attempts": {"count": 2}"#,
        );
        assert_eq!(spec.validate(), Ok(()));
        assert_eq!(spec.attempts.timeout, Span::hours(1));
        let json = serde_json::to_string(&spec).unwrap();
        assert_eq!(serde_json::from_str::<RolloutSpec>(&json).unwrap(), spec);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (json, error) in [
            (r#""waves": [{"size": {"devices": 0}}]"#, SpecError::EmptyWave(0)),
            (
                r#""waves": [{"size": {"percent": 10}}, {"size": {"devices": 1}}, {"size": {"percent": 10}}]"#,
                SpecError::EmptyWave(2),
            ),
            (r#""target": {"percent": 0}"#, SpecError::ShareOfZero),
            (r#""target": {"percent": 0.0001}"#, SpecError::ShareOfZero),
            (r#""limits": {"concurrency": 0}"#, SpecError::LimitOfZero),
            (r#""stop": {"failures": 0, "minimum": 1}"#, SpecError::StopOfZero),
            (r#""stop": {"failures": 1, "minimum": 0}"#, SpecError::StopOfZero),
            (r#""attempts": {"count": 11}"#, SpecError::Attempts),
            (r#""attempts": {"timeout": 0}"#, SpecError::Attempts),
            (r#""start_at": 10, "end_at": 10"#, SpecError::EndsBeforeStart),
        ] {
            assert_eq!(spec(json).validate(), Err(error), "{json}");
        }
    }

    #[test]
    fn pauses_double_up_to_the_longest() {
        let attempts = Attempts::default();
        assert_eq!([1, 2, 3, 9, 40, 90].map(|n| attempts.pause(n).0 / 60_000), [5, 10, 20, 360, 360, 360]);
    }
}
