//! Events: everything that can happen to a deployment.

use serde::{Deserialize, Serialize};

use crate::ids::RolloutId;
use crate::report::Report;

/// Something that happens to a deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Event {
    /// The device reported.
    Report(Report),
    /// The device came (`true`), or went offline or to sleep (`false`).
    Reachable(bool),
    /// Time has passed.
    Tick,
    /// A rollout that comes first has admitted the device.
    Supersede(RolloutId),
    /// The rollout ends: the answer to [`Effect::CloseAll`](crate::Effect::CloseAll).
    Close,
    /// The device is retired.
    Remove,
    /// An operator gives a device that failed, was cancelled, or keeps going back, all its attempts anew. Not to be fed while it
    /// has a deployment in a rollout that comes first.
    Retry {
        /// Offer it with `force`, which a device needs that has rolled this image back.
        force: bool,
    },
}
