//! The order of a rollout and its gate, as answers have them: like the engine's own, but for their moments, and open to what a newer
//! server adds.

use otaru_rollout::{Attempts, GateState, Goal, Held, Limits, RolloutSpec, StopRule, Target, Time, Wave};
use serde::{Deserialize, Serialize};

use crate::name::{Name, Named};
use crate::open::Open;
use crate::timestamp::Timestamp;

/// The order of a rollout. docs/rollouts.md explains its fields.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "schema", schema(as = RolloutSpec))]
pub struct Spec {
    /// Goal: an image, or the image of each device before another rollout.
    #[cfg_attr(feature = "schema", schema(value_type = GoalShape))]
    pub goal: Open<Goal>,
    /// Devices that it is for.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(value_type = Target))]
    pub target: Open<Target>,
    /// Text that shuffles the fleet for percentages.
    #[serde(default)]
    pub salt: String,
    /// Priority: of several rollouts for one device the highest has it; of equal ones the newest.
    #[serde(default)]
    pub priority: i32,
    /// Waves before the last.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(value_type = Vec<Wave>))]
    pub waves: Open<Vec<Wave>>,
    /// Limits on starts.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(value_type = Limits))]
    pub limits: Open<Limits>,
    /// Rule that stops it by itself.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(value_type = Option<StopRule>))]
    pub stop: Open<Option<StopRule>>,
    /// Time and number of attempts.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(value_type = Attempts))]
    pub attempts: Open<Attempts>,
    /// Earliest start.
    #[serde(default)]
    pub start_at: Option<Timestamp>,
    /// Time after which devices that have not begun are given up.
    #[serde(default)]
    pub end_at: Option<Timestamp>,
    /// Whether it never completes by itself.
    #[serde(default)]
    pub continuous: bool,
    /// Whether it is also for other products and what failed before.
    #[serde(default)]
    pub force: bool,
}

impl From<RolloutSpec> for Spec {
    fn from(spec: RolloutSpec) -> Self {
        Self {
            goal: spec.goal.into(),
            target: spec.target.into(),
            salt: spec.salt,
            priority: spec.priority,
            waves: spec.waves.into(),
            limits: spec.limits.into(),
            stop: spec.stop.into(),
            attempts: spec.attempts.into(),
            start_at: spec.start_at.map(Timestamp::from),
            end_at: spec.end_at.map(Timestamp::from),
            continuous: spec.continuous,
            force: spec.force,
        }
    }
}

impl Spec {
    /// Returns the engine's own form, if every part is known.
    pub fn engine(&self) -> Option<RolloutSpec> {
        Some(RolloutSpec {
            goal: *self.goal.known()?,
            target: self.target.known()?.clone(),
            salt: self.salt.clone(),
            priority: self.priority,
            waves: self.waves.known()?.clone(),
            limits: self.limits.known()?.clone(),
            stop: *self.stop.known()?,
            attempts: *self.attempts.known()?,
            start_at: self.start_at.map(Time::from),
            end_at: self.end_at.map(Time::from),
            continuous: self.continuous,
            force: self.force,
        })
    }
}

/// [`Goal`] in the API's description, with digests as text.
#[cfg(feature = "schema")]
#[derive(utoipa::ToSchema)]
#[schema(as = Goal, rename_all = "snake_case")]
#[expect(dead_code, reason = "it describes what another type writes")]
enum GoalShape {
    /// The image with this SHA-256, in hex.
    Image(String),
    /// The image of each device before another rollout gave it one.
    Undo {
        /// That rollout.
        rollout: u64,
        /// SHA-256 of the image that it gave. Devices that do not run it are not touched.
        image: String,
    },
}

/// Gate between the open wave and the next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gate {
    /// The wave is not settled yet.
    Working,
    /// The wave has been settled and good since then.
    Soaking(Timestamp),
    /// The wave is settled, and the next does not open by itself.
    Held(Name<Held>),
}

/// [`Gate`] in the API's description.
#[cfg(feature = "schema")]
#[derive(utoipa::ToSchema)]
#[schema(as = Gate, rename_all = "snake_case", description = "Gate between the open wave and the next.")]
#[expect(dead_code, reason = "it describes what another type writes")]
pub(crate) enum GateShape {
    /// The wave is not settled yet.
    Working,
    /// The wave has been settled and good since then.
    Soaking(Timestamp),
    /// The wave is settled, and the next does not open by itself.
    Held(Held),
}

impl Named for Held {
    fn of_name(name: &str) -> Option<Self> {
        [Self::Hand, Self::SuccessRate, Self::NoEvidence, Self::Unreachable]
            .into_iter()
            .find(|held| held.name() == name)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Hand => "hand",
            Self::SuccessRate => "success_rate",
            Self::NoEvidence => "no_evidence",
            Self::Unreachable => "unreachable",
        }
    }
}

impl From<GateState> for Gate {
    fn from(gate: GateState) -> Self {
        match gate {
            GateState::Working => Self::Working,
            GateState::Soaking(since) => Self::Soaking(since.into()),
            GateState::Held(held) => Self::Held(held.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn only_moments_differ_from_the_engines_own() {
        let engine = RolloutSpec {
            start_at: Some(Time(1_795_922_684_123)),
            ..serde_json::from_value(json!({
                "goal": {"image": "00".repeat(32)}, "priority": 3, "salt": "s",
                "waves": [{"size": {"devices": 1}, "gate": "hand"}], "stop": {"failures": 5, "minimum": 20},
            }))
            .unwrap()
        };
        let (mut engines, mut ours) =
            (serde_json::to_value(&engine).unwrap(), serde_json::to_value(Spec::from(engine)).unwrap());
        assert_eq!(ours["start_at"], "2026-11-29T03:24:44.123Z");
        assert_eq!(engines["start_at"], 1_795_922_684_123_u64);
        ours["start_at"] = Value::Null;
        engines["start_at"] = Value::Null;
        assert_eq!(engines, ours);
    }

    #[test]
    fn a_gate_is_a_word_or_a_pair() {
        for (gate, shown) in [
            (GateState::Working, json!("working")),
            (GateState::Soaking(Time(1_795_922_684_123)), json!({"soaking": "2026-11-29T03:24:44.123Z"})),
            (GateState::Held(Held::SuccessRate), json!({"held": "success_rate"})),
        ] {
            let gate = Gate::from(gate);
            assert_eq!(serde_json::to_value(&gate).unwrap(), shown);
            assert_eq!(serde_json::from_value::<Gate>(shown).unwrap(), gate);
        }
        let newer: Gate = serde_json::from_value(json!({"held": "full_moon"})).unwrap();
        assert_eq!(newer, Gate::Held(Name::Other("full_moon".into())));
    }

    #[test]
    fn reasons_to_hold_have_the_engines_names() {
        for held in [Held::Hand, Held::SuccessRate, Held::NoEvidence, Held::Unreachable] {
            assert_eq!(serde_json::to_value(held).unwrap(), held.name());
            assert_eq!(<Held as Named>::of_name(held.name()), Some(held));
        }
    }

    #[test]
    fn parts_that_a_newer_server_has_in_another_form_are_kept() {
        let sent = json!({"goal": {"image": "00".repeat(32)}, "target": {"tags": null, "moon": "full"},
            "salt": "", "priority": 0, "waves": [], "limits": {"concurrency": 3}, "stop": null, "attempts": {},
            "start_at": null, "end_at": null, "continuous": false, "force": false});
        let spec: Spec = serde_json::from_value(sent.clone()).unwrap();
        assert_eq!((spec.target.known(), spec.engine()), (None, None));
        assert_eq!(spec.limits.known().unwrap().concurrency, Some(3));
        assert_eq!(serde_json::to_value(spec).unwrap()["target"], sent["target"]);
    }
}
