//! Names of devices, rollouts and attempts.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A device's id: the name it has in its topics.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "schema", schema(value_type = String))]
#[serde(transparent)]
pub struct DeviceId(String);

impl DeviceId {
    /// The text of it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for DeviceId {
    fn from(id: &str) -> Self {
        Self(id.to_owned())
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A rollout's id. Newer rollouts have higher ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "schema", schema(value_type = u64))]
#[serde(transparent)]
pub struct RolloutId(pub u64);

/// One attempt of one deployment, as offers and reports name it in their field `deployment`: `r17.2`.
///
/// The device is not part of it: a report's topic tells whose it is. Every attempt has its own, so that what is still
/// said about an earlier one is not taken for news about this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct OfferId {
    /// The rollout.
    pub rollout: RolloutId,
    /// The how manieth offer to that device; from 1.
    pub start: u32,
}

impl fmt::Display for OfferId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "r{}.{}", self.rollout.0, self.start)
    }
}
