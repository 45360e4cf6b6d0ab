//! Fields of the server's answers that several commands read.

use otaru_api::Timestamp;
use otaru_rollout::Phase;
use serde_json::Value;

use crate::moment::ago;

/// Returns the moment in an answer of the server, if there is one.
pub(crate) fn moment(value: &Value) -> Option<Timestamp> {
    value.as_str()?.parse().ok()
}

/// Tells how long ago the moment in an answer of the server was; nothing if there is none.
pub(crate) fn since(value: &Value) -> String {
    moment(value).map_or_else(String::new, ago)
}

/// Returns the phase of a rollout; `None` where it is one that only a newer server knows.
pub(crate) fn phase_of(rollout: &Value) -> Option<Phase> {
    Phase::of_name(rollout["phase"].as_str()?)
}
