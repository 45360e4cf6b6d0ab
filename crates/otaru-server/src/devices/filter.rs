//! Filters of devices: which of them a list shows.

use otaru_api::{Device, FleetCounts, VersionCount};
use otaru_rollout::{TagExpression, Tags, VersionRange};

/// Filter for devices: those that meet every condition that is given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Id or label contains this, in whatever case.
    pub text: Option<String>,
    /// Tags that fit.
    pub tags: Option<TagExpression>,
    /// They are of this product.
    pub product: Option<String>,
    /// They run this version.
    pub version: Option<String>,
    /// They run a version in this range.
    pub versions: Option<VersionRange>,
    /// The chip.
    pub chip: Option<String>,
    /// They run this image: SHA-256.
    pub image: Option<[u8; 32]>,
    /// The state.
    pub state: Option<String>,
    /// Health: `well`, `updating`, `troubled` or `away`.
    pub health: Option<String>,
    /// Whether they can be reached.
    pub reachable: Option<bool>,
    /// They trust this CA over TLS, and no other.
    pub only_trusts: Option<String>,
    /// Why they last failed.
    pub error_code: Option<String>,
    /// They have a deployment in this rollout.
    pub rollout: Option<i64>,
    /// It stands so: `ready`, `active`, `succeeded` … Of use with `rollout` only.
    pub standing: Option<String>,
    /// Retired ones, instead of those that are not.
    pub retired: bool,
}

impl Filter {
    /// Whether SQL alone does not know who meets it.
    pub(super) fn needs_rust(&self) -> bool {
        self.tags.is_some() || self.versions.is_some()
    }

    /// Returns the number of devices, where nothing is asked for, or something by which the fleet was counted.
    pub(super) fn counted(&self, counts: &FleetCounts) -> Option<u64> {
        let rest =
            Self { state: None, health: None, reachable: None, product: None, version: None, ..self.clone() };
        if rest != Self::default() {
            return None;
        }
        let fits = |wanted: &Option<String>, is: &String| wanted.as_ref().is_none_or(|wanted| wanted == is);
        match (&self.state, &self.health, self.reachable, self.product.as_ref().or(self.version.as_ref())) {
            (None, None, None, None) => Some(counts.total),
            (Some(state), None, None, None) => Some(counts.states.get(state).copied().unwrap_or(0)),
            (None, Some(health), None, None) => Some(counts.health.get(health).copied().unwrap_or(0)),
            (None, None, Some(true), None) => Some(counts.reachable),
            (None, None, Some(false), None) => Some(counts.total.saturating_sub(counts.reachable)),
            (None, None, None, Some(_)) => {
                let runs = |count: &&VersionCount| {
                    fits(&self.product, &count.product) && fits(&self.version, &count.version)
                };
                Some(counts.versions.iter().filter(runs).map(|count| count.devices).sum())
            }
            _ => None,
        }
    }

    /// Whether a device meets what SQL does not know of.
    pub(super) fn matches(&self, device: &Device) -> bool {
        let tags = || Tags::from_iter(device.tags.iter().map(|(name, value)| (name.clone(), value.clone())));
        self.versions.as_ref().is_none_or(|range| range.contains(&device.version))
            && self.tags.as_ref().is_none_or(|expression| expression.matches(&tags()))
    }
}
