//! Rollouts: orders, views, previews, deployments and history.

use std::collections::BTreeMap;

use otaru_rollout::{
    Attempts, Goal, Limits, Percent, Phase, RolloutSpec, Span, Standing, StopRule, Tally, Target, Time,
    Verdicts, Wave,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::name::Name;
use crate::open::Open;
use crate::problem::Problem;
#[cfg(feature = "schema")]
use crate::spec::GateShape;
use crate::spec::{Gate, Spec};
use crate::timestamp::Timestamp;

/// A rollout as it is ordered. docs/rollouts.md explains its fields.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "schema", schema(example = json!({
    "name": "Lamps in Berlin to 1.1.0", "release": 1, "target": {"tags": "site=berlin"},
    "limits": {"concurrency": 50}
})))]
pub struct NewRollout {
    /// Name for people.
    #[cfg_attr(feature = "schema", schema(min_length = 1, max_length = 100))]
    pub name: String,
    /// Id of the release; or, instead, `undo`.
    #[serde(default)]
    pub release: Option<i64>,
    /// Id of the rollout to undo; or, instead, `release`.
    #[serde(default)]
    pub undo: Option<u64>,
    /// Target; all devices, if not given.
    #[serde(default)]
    pub target: Target,
    /// Waves before the last.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(max_items = 16))]
    pub waves: Vec<Wave>,
    /// Limits on starts: concurrent updates, starts per minute, and a time window.
    #[serde(default)]
    pub limits: Limits,
    /// Rule that stops it by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop: Option<StopRule>,
    /// Time and number of attempts.
    #[serde(default, skip_serializing_if = "NewAttempts::is_empty")]
    pub attempts: NewAttempts,
    /// Priority: of several rollouts for one device the highest comes first; of equal ones the newest.
    #[serde(default)]
    pub priority: i32,
    /// Text that shuffles the fleet for percentages.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[cfg_attr(feature = "schema", schema(max_length = 64))]
    pub salt: String,
    /// Earliest start.
    #[serde(default)]
    pub start_at: Option<Timestamp>,
    /// Time after which devices that have not begun are given up.
    #[serde(default)]
    pub end_at: Option<Timestamp>,
    /// Whether it never completes by itself, and includes devices that join later.
    #[serde(default)]
    pub continuous: bool,
    /// Whether it includes devices of other products and devices on which the image failed before: unsigned firmware is offered
    /// with `force`, signed firmware is signed again with a higher sequence.
    #[serde(default)]
    pub force: bool,
    /// Whether it is created without being started; nothing is signed before it starts.
    #[serde(default)]
    pub draft: bool,
}

/// Time and number of a device's attempts; what is not given is the server's choice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields)]
pub struct NewAttempts {
    /// Time that one attempt may take, from the offer to the confirmed image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
    /// Number of attempts, the first included; at most 10.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u32>,
    /// Pause after the first; each further one is twice as long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backoff: Option<Span>,
    /// Longest pause.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_backoff: Option<Span>,
}

impl NewAttempts {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Returns these attempts, with `usual` ones where nothing is given.
    fn or(self, usual: Attempts) -> Attempts {
        Attempts {
            timeout: self.timeout.unwrap_or(usual.timeout),
            count: self.count.unwrap_or(usual.count),
            backoff: self.backoff.unwrap_or(usual.backoff),
            max_backoff: self.max_backoff.unwrap_or(usual.max_backoff),
        }
    }
}

impl NewRollout {
    /// Returns the engine's order of it, with this goal.
    pub fn spec(self, goal: Goal) -> RolloutSpec {
        RolloutSpec {
            goal,
            target: self.target,
            salt: self.salt,
            priority: self.priority,
            waves: self.waves,
            limits: self.limits,
            stop: self.stop,
            attempts: self.attempts.or(Attempts::default()),
            start_at: self.start_at.map(Time::from),
            end_at: self.end_at.map(Time::from),
            continuous: self.continuous,
            force: self.force,
        }
    }
}

/// A rollout.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Rollout {
    /// Id; newer rollouts have higher ones.
    pub id: u64,
    /// Name for people.
    pub name: String,
    /// Release that it brings.
    #[serde(default)]
    pub release: Option<ReleaseInShort>,
    /// Id of the rollout that it undoes.
    #[serde(default)]
    pub undo: Option<u64>,
    /// Phase: `draft`, `scheduled`, `running`, `paused`, `stopped`, `finishing`, `completed` or `aborted`.
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub phase: Name<Phase>,
    /// Index of the open wave, from 0; those before it are open too.
    pub wave: usize,
    /// Gate between that and the next: `working`, `{"soaking": since}` or `{"held": why}`.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(value_type = GateShape))]
    pub gate: Open<Gate>,
    /// Whether starts are held because too many devices did not reach the broker with the image and retry.
    #[serde(default)]
    pub retries_hold: bool,
    /// Numbers of deployments by standing, for each wave; those of the last wave are the last.
    #[cfg_attr(feature = "schema", schema(value_type = Vec<BTreeMap<String, u32>>))]
    pub tallies: Vec<WaveTally>,
    /// Numbers of devices that succeeded and failed.
    #[cfg_attr(feature = "schema", schema(value_type = BTreeMap<String, u32>))]
    pub verdicts: Verdicts,
    /// Verdicts that broke the stop rule, of a wave or of all; of a stopped rollout only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<BTreeMap<String, u32>>))]
    pub broke: Option<Verdicts>,
    /// Codes of failures, and the number of devices of each. Of a single rollout only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasons: Option<BTreeMap<String, u64>>,
    /// Specification.
    pub spec: Spec,
    /// Time of creation.
    pub created_at: Timestamp,
    /// Name of the token that created it.
    pub created_by: String,
    /// Time of the last change.
    pub updated_at: Timestamp,
}

/// Deployments of one wave, counted by standing: also by those that only a newer server has.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct WaveTally {
    /// Numbers by the standings that this version knows.
    #[serde(flatten)]
    pub known: Tally,
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

impl WaveTally {
    /// Returns the names of standings that this version does not know, with the number of deployments of each.
    pub fn others(&self) -> impl Iterator<Item = (&str, u64)> {
        self.rest.iter().filter_map(|(name, count)| Some((name.as_str(), count.as_u64()?)))
    }
}

impl From<Tally> for WaveTally {
    fn from(known: Tally) -> Self {
        Self { known, rest: BTreeMap::new() }
    }
}

/// A release, in short.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ReleaseInShort {
    /// Id.
    pub id: i64,
    /// Product.
    pub product: String,
    /// Version.
    pub version: String,
    /// Product and version and, where another release for the chip has the same, the first digits of the image.
    #[serde(default)]
    pub title: String,
    /// First eight digits of its image.
    #[serde(default)]
    pub image_short: String,
    /// Name of the file it came in.
    #[serde(default)]
    pub filename: Option<String>,
}

/// Devices that a rollout would be for, if it started now.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Preview {
    /// Release that it brings.
    #[serde(default)]
    pub release: Option<ReleaseInShort>,
    /// Number of devices that match the target.
    pub devices: u64,
    /// Number of these that run the release already.
    pub current: u64,
    /// Number of the rest that can be reached now.
    pub reachable: u64,
    /// Number of the rest that are updating for another rollout.
    pub busy: u64,
    /// Number of devices in each wave, the last included; waves by number are filled first.
    #[serde(default)]
    pub waves: Vec<u64>,
    /// Some of them.
    #[serde(default)]
    pub some: Vec<String>,
    /// Devices that are known to refuse what it brings, by the reason that they would tell. Others may refuse it as well: reports do not
    /// say how much flash a device has, nor which revision of the chip.
    #[serde(default)]
    pub refusals: Vec<KnownRefusal>,
    /// Problem for which the rollout would not be made, as making it would say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
}

/// Devices that are known to refuse an image for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct KnownRefusal {
    /// Code that they would report: `flash_too_small`, `too_large`, `wrong_revision`, `wrong_chip` or `wrong_product`.
    pub code: String,
    /// Explanation.
    pub why: String,
    /// Number of devices.
    pub devices: u64,
    /// Some of them.
    #[serde(default)]
    pub some: Vec<String>,
}

/// An event in a rollout's history.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct RolloutEvent {
    /// Id; newer events have higher ones.
    pub id: i64,
    /// Time of the event.
    pub at: Timestamp,
    /// Name of the token that was used; `null` for the server itself.
    #[serde(default)]
    pub actor: Option<String>,
    /// Event: `{"did": …}` or `{"notice": …}`.
    #[cfg_attr(feature = "schema", schema(value_type = Option<std::collections::BTreeMap<String, Value>>))]
    #[serde(default)]
    pub event: Value,
}

/// A deployment as lists show it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Deployment {
    /// Id of the rollout.
    pub rollout: u64,
    /// Id of the device.
    pub device: String,
    /// Standing: `ready`, `waiting`, `active`, `retrying`, or the outcome.
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub standing: Name<Standing>,
    /// Index of its wave, from 0.
    pub wave: u32,
    /// Number of offers to the device.
    pub starts: u32,
    /// SHA-256 of the image that it shall run, in hex.
    pub image: String,
    /// SHA-256 of the image that it ran before.
    #[serde(default)]
    pub previous: String,
    /// Number of starts of the image that did not reach the broker, while the device will try again.
    #[serde(default)]
    pub trials: u8,
    /// Number of times that the device was taken back after it ran another image.
    #[serde(default)]
    pub returns: u8,
    /// Code of its failure.
    #[serde(default)]
    pub error_code: Option<String>,
    /// Details of the failure, in the device's words.
    #[serde(default)]
    pub error_detail: Option<String>,
    /// Earliest time of the next attempt.
    #[serde(default)]
    pub not_before: Option<Timestamp>,
    /// Time of creation.
    pub created_at: Timestamp,
    /// Time of the last change.
    pub updated_at: Timestamp,
}

/// A larger share of a rollout's target.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct WidenRollout {
    /// Share of the target in per cent, larger than before.
    #[cfg_attr(feature = "schema", schema(value_type = f64, minimum = 0, maximum = 100))]
    pub percent: Percent,
}

/// New attempts for a deployment that is over.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct RetryDeployment {
    /// Whether a device that has rolled this image back is included: the image is signed again with a higher sequence or, if
    /// unsigned, offered with `force`.
    pub force: bool,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use otaru_format::digest::Digest;

    use super::*;

    #[test]
    fn a_tally_is_written_as_the_engine_does() {
        let tally = Tally { ready: 1, rolled_back: 2, ..Tally::default() };
        let written = serde_json::to_string(&WaveTally::from(tally)).unwrap();
        assert_eq!(written, serde_json::to_string(&tally).unwrap());
    }

    #[test]
    fn a_standing_of_a_newer_server_is_counted_and_kept() {
        let sent = json!({"ready": 1, "quarantined": 2, "since": {"moon": "full"}});
        let tally: WaveTally = serde_json::from_value(sent).unwrap();
        assert_eq!(tally.known, Tally { ready: 1, ..Tally::default() });
        assert_eq!(tally.others().collect::<Vec<_>>(), [("quarantined", 2)]);
        assert_eq!(serde_json::to_value(&tally).unwrap()["since"]["moon"], "full");
    }

    #[test]
    fn what_is_not_given_is_left_to_the_server() {
        let new = NewRollout { name: "x".into(), release: Some(1), ..NewRollout::default() };
        let sent = serde_json::to_value(&new).unwrap();
        for name in ["salt", "stop", "attempts"] {
            assert_eq!(sent.get(name), None);
        }
        let new = NewRollout { attempts: NewAttempts { count: Some(5), ..NewAttempts::default() }, ..new };
        assert_eq!(serde_json::to_value(&new).unwrap()["attempts"], json!({"count": 5}));
        let attempts = new.spec(Goal::Image(Digest([0; 32]))).attempts;
        assert_eq!(attempts, Attempts { count: 5, ..Attempts::default() });
    }
}
