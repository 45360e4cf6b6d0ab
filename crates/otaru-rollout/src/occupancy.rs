//! Occupancy of a device: the rollouts that it belongs to.

use serde::{Deserialize, Serialize};

use crate::ids::RolloutId;

/// Rollouts that a device belongs to. One row for each device: it is what keeps two rollouts apart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Occupancy {
    /// The rollout in which its deployment is active; `None` when none is.
    pub active: Option<RolloutId>,
    /// The rollout that was last found to have brought the device to its image.
    #[serde(default)]
    pub brought_by: Option<RolloutId>,
}
