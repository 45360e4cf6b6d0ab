//! Events of the live stream.

use serde::{Deserialize, Serialize};

/// Something that changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Event {
    /// A device: it appeared, reported, came, went, or was changed.
    Device {
        /// Id.
        id: String,
        /// State, as it reports it.
        state: String,
        /// Version that it runs.
        version: String,
        /// Whether it can be reached.
        reachable: bool,
        /// Per cent of a download that is under way.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        progress: Option<u8>,
        /// Trial that comes next, where the new image did not reach the broker and will be tried again.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        next_trial: Option<u8>,
    },
    /// A deployment came to stand elsewhere.
    Deployment {
        /// Id of the rollout.
        rollout: u64,
        /// Id of the device.
        device: String,
        /// Standing: `ready`, `waiting`, `active` or an outcome.
        standing: String,
    },
    /// A rollout: its phase, its wave or its counts.
    Rollout {
        /// Id.
        id: u64,
        /// Phase.
        phase: String,
    },
    /// A release: it was uploaded, changed, or its files were.
    Release {
        /// Id.
        id: i64,
    },
    /// A job in the background went on.
    Job {
        /// Id.
        id: i64,
        /// Release that is worked on.
        release: i64,
        /// State: `queued`, `running`, `done` or `failed`.
        state: String,
        /// Stage, or why it failed.
        detail: String,
        /// Per cent of it, where known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        progress: Option<u8>,
    },
    /// An event that this version does not know. A server never sends it.
    #[serde(other, skip_serializing)]
    #[cfg_attr(feature = "schema", schema(ignore))]
    Other,
}
