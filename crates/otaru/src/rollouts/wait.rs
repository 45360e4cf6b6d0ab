//! Reason why a rollout waits, and the command that resumes it.

use otaru_rollout::Phase;
use serde_json::Value;

use super::counts::Counts;
use crate::client::answer::{moment, phase_of, since};
use crate::moment::ahead;
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
    pub(crate) fn of(rollout: &Value) -> Option<Self> {
        let id = &rollout["id"];
        match phase_of(rollout) {
            Some(Phase::Draft) => {
                return Some(Self::by_hand(format!("a draft: `otaru rollout start {id}` starts it")));
            }
            Some(Phase::Paused) => {
                return Some(Self::by_hand(format!("paused: `otaru rollout resume {id}` goes on")));
            }
            Some(Phase::Scheduled) => {
                let at = moment(&rollout["spec"]["start_at"]).map_or_else(String::new, ahead);
                return Some(Self::by_itself(format!("it starts {at}")));
            }
            Some(Phase::Running) => {}
            _ => return None,
        }
        if rollout["retries_hold"] == true {
            return Some(Self::by_itself(RETRIES));
        }
        let (gate, wave) = (&rollout["gate"], rollout["wave"].as_u64().unwrap_or(0) + 1);
        if gate["soaking"].is_string() {
            let since = since(&gate["soaking"]);
            return Some(Self::by_itself(format!("wave {wave} is good; it soaks since {since}")));
        }
        let open = format!("`otaru rollout advance {id}` opens the next");
        match gate["held"].as_str() {
            Some("hand") => return Some(Self::by_hand(format!("wave {wave} is done: {open}"))),
            Some("success_rate") => {
                return Some(Self::by_hand(format!(
                    "held: too few of wave {wave} succeeded; {open} all the same, `otaru rollout abort {id}` gives up"
                )));
            }
            Some("no_evidence") => {
                return Some(Self::by_hand(format!(
                    "held: no device of wave {wave} has shown that the release is good; {open} all the same"
                )));
            }
            Some("unreachable") => return Some(Self::by_itself(RETRIES)),
            Some(other) => return Some(Self::by_hand(format!("held: {}", ui::clean(other)))),
            None => {}
        }
        let counts = Counts::all(rollout);
        let idle = counts.active == 0 && counts.retrying == 0;
        (idle && counts.waiting > 0 && counts.waiting == counts.open()).then(|| {
            let away = ui::many(counts.waiting, "device");
            Self::by_itself(format!(
                "{away} away: they get it when they come back; `otaru rollout finish {id}` does not wait for them"
            ))
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use serde_json::json;

    /// A rollout as the server tells it.
    pub(in crate::rollouts) fn rollout(phase: &str, gate: Value, tally: Value) -> Value {
        json!({"id": 3, "name": "lamp", "phase": phase, "wave": 0, "gate": gate, "tallies": [tally],
               "spec": {"start_at": null}})
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
        let away = json!({"succeeded": 2, "waiting": 3});
        let wait = Wait::of(&rollout("running", json!("working"), away)).unwrap();
        assert!(wait.text.starts_with("3 devices away: ") && !wait.by_hand, "{wait:?}");
        assert_eq!(Wait::of(&rollout("running", json!("working"), json!({"waiting": 3, "active": 1}))), None);
        assert_eq!(Wait::of(&rollout("completed", json!("working"), done)), None);
    }
}
