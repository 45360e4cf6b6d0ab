//! Queries in URLs: which items of a list are wanted, and what a request is to do beside. What is not given is left out.

use serde::{Deserialize, Serialize};

/// Conditions on releases in a list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::IntoParams))]
#[cfg_attr(feature = "schema", into_params(parameter_in = Query))]
pub struct ReleaseQuery {
    /// Of this product.
    pub product: Option<String>,
    /// For this chip.
    pub chip: Option<String>,
    /// With this version.
    pub version: Option<String>,
    /// Taken back, or not.
    pub yanked: Option<bool>,
}

/// Names and notes that come with an upload.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::IntoParams))]
#[cfg_attr(feature = "schema", into_params(parameter_in = Query))]
#[serde(deny_unknown_fields)]
pub struct UploadQuery {
    /// Name of the file where it comes from: kept to tell releases apart, in 100 bytes at most.
    pub filename: Option<String>,
    /// Product, where it is not the image's project name. Devices take such a release only where `Config::product` is this one.
    pub product: Option<String>,
    /// Version, where it is not the image's own: some frameworks put the same into every build.
    pub version: Option<String>,
    /// Notes for people.
    pub notes: Option<String>,
    /// SHA-256 of the file in hexadecimal digits, as an alternative to the header `Repr-Digest`.
    pub sha256: Option<String>,
}

/// How a release file is built anew.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::IntoParams))]
#[cfg_attr(feature = "schema", into_params(parameter_in = Query))]
#[serde(deny_unknown_fields)]
pub struct BuildQuery {
    /// Also in place of a file that was signed elsewhere; for admins.
    #[serde(default)]
    pub replace: bool,
}

/// Conditions on rollouts in a list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::IntoParams))]
#[cfg_attr(feature = "schema", into_params(parameter_in = Query))]
pub struct RolloutQuery {
    /// Only those in this phase
    pub phase: Option<String>,
}

/// How a rollout is aborted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::IntoParams))]
#[cfg_attr(feature = "schema", into_params(parameter_in = Query))]
#[serde(deny_unknown_fields)]
pub struct AbortQuery {
    /// Also cancel what is under way, as far as devices still can
    #[serde(default)]
    pub cancel: bool,
}

/// Conditions on the deployments of a rollout.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::IntoParams))]
#[cfg_attr(feature = "schema", into_params(parameter_in = Query))]
pub struct DeploymentQuery {
    /// Only those of this standing: `ready`, `waiting`, `active`, `succeeded`, `failed` …
    pub standing: Option<String>,
    /// Only those that failed for this reason
    pub error: Option<String>,
}

/// Kinds of events to hear of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::IntoParams))]
#[cfg_attr(feature = "schema", into_params(parameter_in = Query))]
pub struct EventQuery {
    /// Only these kinds, with commas between: `device`, `deployment`, `rollout`, `release`, `job`
    pub kinds: Option<String>,
}

/// Conditions on entries of the audit log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::IntoParams))]
#[cfg_attr(feature = "schema", into_params(parameter_in = Query))]
pub struct AuditQuery {
    /// Only what the owner of the token with this name did
    pub actor: Option<String>,
    /// Only actions that begin so, such as `rollout.`
    pub action: Option<String>,
    /// Only what was done to this, such as `rollout/17`
    pub object: Option<String>,
}
