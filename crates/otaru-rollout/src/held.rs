//! Reasons for which a rollout waits between two waves.

use serde::{Deserialize, Serialize};

/// Why the next wave does not open by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Held {
    /// An operator is to open it.
    Hand,
    /// Too few of the wave's devices succeeded.
    SuccessRate,
    /// No device at all has succeeded yet: all of the wave's are away, or had the goal already.
    NoEvidence,
    /// Too many devices try the image again that did not reach the broker: if they failed, the wave would be too bad, or the
    /// rollout would stop.
    Unreachable,
}
