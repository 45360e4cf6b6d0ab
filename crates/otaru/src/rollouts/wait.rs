//! Reason why a rollout waits, and the command that resumes it.

use otaru_api::{Gate, Name, Rollout};
use otaru_rollout::{Held, Phase, Standing};

use super::counts::Counts;
use crate::moment::{ago, ahead};
use crate::ui;

/// Words for a rollout that too many devices hold, as they try the image again.
const RETRIES: &str =
    "held: too many devices did not reach the broker with the new image; they try it again by themselves";

/// A thing that a rollout waits for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Wait {
    /// In words, with the command that lets it go on.
    pub(crate) text: String,
    /// Whether it goes on only when somebody does something.
    pub(crate) by_hand: bool,
}

impl Wait {
    fn by_itself(text: impl Into<String>) -> Self {
        Self { text: text.into(), by_hand: false }
    }

    fn by_hand(text: String) -> Self {
        Self { text, by_hand: true }
    }

    /// Tells what this rollout waits for, other than devices that update.
    pub(crate) fn of(rollout: &Rollout) -> Option<Self> {
        let id = rollout.id;
        match rollout.phase.known()? {
            Phase::Draft => {
                return Some(Self::by_hand(format!("a draft: `otaru rollout start {id}` starts it")));
            }
            Phase::Paused => {
                return Some(Self::by_hand(format!("paused: `otaru rollout resume {id}` goes on")));
            }
            Phase::Scheduled => {
                let at = rollout.spec.start_at.map_or_else(String::new, ahead);
                return Some(Self::by_itself(format!("it starts {at}")));
            }
            Phase::Running => {}
            Phase::Stopped | Phase::Finishing | Phase::Completed | Phase::Aborted { .. } => return None,
        }
        if rollout.retries_hold {
            return Some(Self::by_itself(RETRIES));
        }
        Self::at_the_gate(rollout).or_else(|| Self::for_absent(rollout))
    }

    /// Tells why the next wave does not open yet.
    fn at_the_gate(rollout: &Rollout) -> Option<Self> {
        let (id, wave) = (rollout.id, rollout.wave + 1);
        let open = format!("`otaru rollout advance {id}` opens the next");
        let held = match rollout.gate.known()? {
            Gate::Working => return None,
            Gate::Soaking(since) => {
                let since = ago(*since);
                return Some(Self::by_itself(format!("wave {wave} is good; it soaks since {since}")));
            }
            Gate::Held(held) => held,
        };
        Some(match held {
            Name::Known(Held::Hand) => Self::by_hand(format!("wave {wave} is done: {open}")),
            Name::Known(Held::SuccessRate) => Self::by_hand(format!(
                "held: too few of wave {wave} succeeded; {open} all the same, `otaru rollout abort {id}` gives up"
            )),
            Name::Known(Held::NoEvidence) => Self::by_hand(format!(
                "held: no device has shown yet that the release is good; {open} all the same"
            )),
            Name::Known(Held::Unreachable) => Self::by_itself(RETRIES),
            Name::Other(why) => Self::by_hand(format!("held: {}", ui::clean(why))),
        })
    }

    /// Tells that only devices are left which are away.
    fn for_absent(rollout: &Rollout) -> Option<Self> {
        let counts = Counts::all(rollout);
        let waiting = counts.count(Standing::Waiting);
        (waiting > 0 && waiting == counts.open()).then(|| {
            let away = ui::many(waiting, "device");
            let id = rollout.id;
            Self::by_itself(format!(
                "{away} away: they get it when they come back; `otaru rollout finish {id}` does not wait for them"
            ))
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// A rollout as the server tells it.
    pub(in crate::rollouts) fn rollout(phase: &str, gate: Value, tally: Value) -> Rollout {
        serde_json::from_value(json!({
            "id": 3, "name": "lamp", "phase": phase, "wave": 0, "gate": gate, "tallies": [tally],
            "verdicts": {"good": 0, "bad": 0}, "spec": {"goal": {"image": "00".repeat(32)}, "stop": null},
            "created_at": "2026-11-29T03:24:44.123Z", "created_by": "first",
            "updated_at": "2026-11-29T03:24:44.123Z",
        }))
        .unwrap()
    }

    #[test]
    fn what_it_waits_for_is_told_with_the_command_that_goes_on() {
        let done = json!({"succeeded": 2, "ready": 0});
        for (phase, gate, wanted) in [
            ("draft", json!("working"), "`otaru rollout start 3`"),
            ("paused", json!("working"), "`otaru rollout resume 3`"),
            ("running", json!({"held": "hand"}), "wave 1 is done: `otaru rollout advance 3`"),
            ("running", json!({"held": "success_rate"}), "`otaru rollout advance 3`"),
            ("running", json!({"held": "no_evidence"}), "`otaru rollout advance 3`"),
        ] {
            let wait = Wait::of(&rollout(phase, gate, done.clone())).unwrap();
            assert!(wait.by_hand && wait.text.contains(wanted), "{wait:?}");
        }
        let wait = Wait::of(&rollout("running", json!({"held": "unreachable"}), done.clone())).unwrap();
        assert!(!wait.by_hand, "{wait:?}");
        let newer = Wait::of(&rollout("running", json!({"held": "full_moon"}), done.clone())).unwrap();
        assert_eq!(newer, Wait::by_hand("held: full_moon".into()));
        let away = json!({"succeeded": 2, "waiting": 3});
        let wait = Wait::of(&rollout("running", json!("working"), away)).unwrap();
        assert!(wait.text.starts_with("3 devices away: ") && !wait.by_hand, "{wait:?}");
        assert_eq!(Wait::of(&rollout("running", json!("working"), json!({"waiting": 3, "active": 1}))), None);
        assert_eq!(Wait::of(&rollout("completed", json!("working"), done)), None);
    }
}
