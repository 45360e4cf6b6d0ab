//! Specifications and gates of rollouts, as the API has them: like the engine's own, but for their moments.

use otaru_rollout::{Attempts, GateState, Goal, Held, Limits, RolloutSpec, StopRule, Target, Time, Wave};
use serde::{Deserialize, Serialize};

use crate::timestamp::{self, Timestamp};

/// What was asked for. What its fields mean: docs/rollouts.md.
#[derive(Serialize, Deserialize, utoipa::ToSchema)]
#[serde(remote = "RolloutSpec", deny_unknown_fields)]
#[schema(as = RolloutSpec)]
pub(crate) struct SpecText {
    /// What devices shall run: an image, or what each ran before another rollout.
    #[schema(value_type = BTreeMap<String, Value>)]
    goal: Goal,
    /// Which devices.
    #[serde(default)]
    #[schema(value_type = Object)]
    target: Target,
    /// Shuffles the fleet for percentages.
    #[serde(default)]
    salt: String,
    /// Of several for one device the highest has it; of equal ones the newest.
    #[serde(default)]
    priority: i32,
    /// The waves before the last.
    #[serde(default)]
    #[schema(value_type = Vec<Object>)]
    waves: Vec<Wave>,
    /// How many at once, how many a minute, and when.
    #[serde(default)]
    #[schema(value_type = Object)]
    limits: Limits,
    /// When to stop by itself.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    stop: Option<StopRule>,
    /// How long and how often a device may try.
    #[serde(default)]
    #[schema(value_type = Object)]
    attempts: Attempts,
    /// Not before this.
    #[serde(default, with = "timestamp::optional_text")]
    #[schema(value_type = Option<Timestamp>)]
    start_at: Option<Time>,
    /// Devices that have not begun by then are given up.
    #[serde(default, with = "timestamp::optional_text")]
    #[schema(value_type = Option<Timestamp>)]
    end_at: Option<Time>,
    /// Never completes by itself.
    #[serde(default)]
    continuous: bool,
    /// Also other products and what failed before.
    #[serde(default)]
    force: bool,
}

/// State of the gate between a wave and the next.
#[derive(Serialize, Deserialize)]
#[serde(remote = "GateState", rename_all = "snake_case")]
pub(crate) enum GateText {
    Working,
    Soaking(#[serde(with = "timestamp::text")] Time),
    Held(Held),
}

/// The same for the API's description: `working`, `{"soaking": since}` or `{"held": why}`.
#[derive(utoipa::ToSchema)]
#[schema(as = GateState, rename_all = "snake_case")]
#[expect(dead_code, reason = "it describes what another type writes")]
pub(crate) enum GateShape {
    /// The wave is not settled yet.
    Working,
    /// It has been settled and good since then.
    Soaking(Timestamp),
    /// It is settled, and not good enough to go on by itself.
    Held(String),
}

#[cfg(test)]
mod tests {
    use otaru_format::digest::Digest;
    use serde_json::{Value, json};

    use super::*;

    #[derive(Serialize, Deserialize)]
    struct Spec(#[serde(with = "SpecText")] RolloutSpec);

    #[derive(Serialize, Deserialize)]
    struct Gate(#[serde(with = "GateText")] GateState);

    /// The example in `docs/rollouts.md` is one.
    #[test]
    fn the_documented_example_is_read() {
        let text = include_str!("../../../../docs/rollouts.md");
        let json = text.split("```json").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
        let shown: Value =
            serde_json::from_str(&json.replace("9a2f…e528", &Digest::of(b"x").to_string())).unwrap();
        let Spec(spec) = serde_json::from_value(shown.clone()).unwrap();
        assert_eq!(spec.validate(), Ok(()));
        assert_eq!(spec.attempts, Attempts::default());
        // Every field is shown.
        let all = serde_json::to_value(Spec(spec)).unwrap();
        assert_eq!(shown.as_object().unwrap().len(), all.as_object().unwrap().len());
    }

    #[test]
    fn only_moments_differ_from_the_engines_own() {
        let given = json!({
            "goal": {"image": "00".repeat(32)}, "priority": 3, "salt": "s",
            "waves": [{"size": {"devices": 1}, "gate": "hand"}], "stop": {"failures": 5, "minimum": 20},
            "start_at": "2026-11-29T04:24:44.123+01:00", "end_at": null,
        });
        let Spec(spec) = serde_json::from_value(given).unwrap();
        assert_eq!((spec.start_at, spec.end_at), (Some(Time(1_795_922_684_123)), None));
        let (mut engines, mut ours) =
            (serde_json::to_value(&spec).unwrap(), serde_json::to_value(Spec(spec)).unwrap());
        assert_eq!(ours["start_at"].take(), "2026-11-29T03:24:44.123Z");
        assert_eq!(engines["start_at"].take(), 1_795_922_684_123_u64);
        assert_eq!(ours, engines);
    }

    #[test]
    fn a_gate_tells_since_when() {
        for (state, is) in [
            (GateState::Working, json!("working")),
            (GateState::Soaking(Time(1_795_922_684_123)), json!({"soaking": "2026-11-29T03:24:44.123Z"})),
            (GateState::Held(Held::SuccessRate), json!({"held": "success_rate"})),
        ] {
            assert_eq!(serde_json::to_value(Gate(state)).unwrap(), is);
            assert_eq!(serde_json::from_value::<Gate>(is).unwrap().0, state);
        }
    }
}
