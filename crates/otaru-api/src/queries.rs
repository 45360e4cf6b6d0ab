//! Queries in URLs: which items of a list are wanted, and what a request is to do beside. What is not given is left out.

use serde::{Deserialize, Serialize};

/// Conditions on releases in a list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::IntoParams))]
#[cfg_attr(feature = "schema", into_params(parameter_in = Query))]
pub struct ReleaseQuery {
    /// Product.
    pub product: Option<String>,
    /// Chip, such as `esp32c3`.
    pub chip: Option<String>,
    /// Version.
    pub version: Option<String>,
    /// Whether it is yanked.
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

/// Options of a preview.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::IntoParams))]
#[cfg_attr(feature = "schema", into_params(parameter_in = Query))]
#[serde(deny_unknown_fields)]
pub struct PreviewQuery {
    /// Devices after which to stop, and leave all other counts at what they are by then, without the field `problem`: 1 asks only whether
    /// there is any, which takes a moment where most of a large fleet is meant.
    pub enough: Option<u64>,
}

/// Options of a rebuild of a release file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::IntoParams))]
#[cfg_attr(feature = "schema", into_params(parameter_in = Query))]
#[serde(deny_unknown_fields)]
pub struct BuildQuery {
    /// Whether a file that was signed elsewhere is replaced as well; for admins.
    #[serde(default)]
    pub replace: bool,
}

/// Conditions on rollouts in a list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::IntoParams))]
#[cfg_attr(feature = "schema", into_params(parameter_in = Query))]
pub struct RolloutQuery {
    /// Phase.
    pub phase: Option<String>,
}

/// Options of an abort.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::IntoParams))]
#[cfg_attr(feature = "schema", into_params(parameter_in = Query))]
#[serde(deny_unknown_fields)]
pub struct AbortQuery {
    /// Whether updates under way are cancelled as well, where devices still can.
    #[serde(default)]
    pub cancel: bool,
}

/// Conditions on the deployments of a rollout.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::IntoParams))]
#[cfg_attr(feature = "schema", into_params(parameter_in = Query))]
pub struct DeploymentQuery {
    /// State: `ready`, `waiting`, `active`, `succeeded`, `failed` …
    pub standing: Option<String>,
    /// Code of the failure, such as `panic`.
    pub error: Option<String>,
}

/// Kinds of events to hear of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::IntoParams))]
#[cfg_attr(feature = "schema", into_params(parameter_in = Query))]
pub struct EventQuery {
    /// Kinds of events, separated by commas: `device`, `deployment`, `rollout`, `release`, `job`.
    pub kinds: Option<String>,
}

/// Conditions on entries of the audit log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::IntoParams))]
#[cfg_attr(feature = "schema", into_params(parameter_in = Query))]
pub struct AuditQuery {
    /// Name of the token that was used.
    pub actor: Option<String>,
    /// Beginning of the action, such as `rollout.`.
    pub action: Option<String>,
    /// Object of the action, such as `rollout/17`.
    pub object: Option<String>,
}
