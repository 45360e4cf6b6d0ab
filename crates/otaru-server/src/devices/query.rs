//! Queries for devices, as they stand in a URL or a body.

use otaru_format::digest::Digest;
use otaru_format::status::{Code, UpdateState};
use serde::{Deserialize, Serialize};

use super::health;
use super::list::Filter;
use crate::problem::Problem;
use crate::rollouts::deployments::standings;
use crate::similar::known;

/// Filter for devices; a device matches when it meets every field that is given.
#[derive(Debug, Default, Deserialize, Serialize, utoipa::IntoParams, utoipa::ToSchema)]
#[into_params(parameter_in = Query)]
#[serde(default)]
pub(crate) struct DeviceQuery {
    /// Text in the id or the label
    q: Option<String>,
    /// Tag expression, such as `site=berlin and not canary`
    tags: Option<String>,
    /// Product that the device runs
    product: Option<String>,
    /// Version that the device runs
    version: Option<String>,
    /// Range of versions, such as `>=1.0.0, <2.0.0`
    versions: Option<String>,
    /// Chip, such as `esp32c3`
    chip: Option<String>,
    /// SHA-256 of the image that the device runs, in hex
    image: Option<String>,
    /// State, such as `rolled_back`
    state: Option<String>,
    /// Health: `well`, `updating`, `troubled` or `away`
    health: Option<String>,
    /// Whether the device can be reached
    reachable: Option<bool>,
    /// Code of the last failure, such as `panic`
    error: Option<String>,
    /// Rollout in which the device has a deployment
    rollout: Option<i64>,
    /// Standing of that deployment: `ready`, `waiting`, `active`, `succeeded`, `failed` …
    standing: Option<String>,
    /// Whether to list retired devices instead of the others
    retired: bool,
}

impl DeviceQuery {
    /// Returns the filter for the database.
    ///
    /// # Errors
    /// When a part of it cannot be read.
    pub(crate) fn filter(self) -> Result<Filter, Problem> {
        // What is left empty, as in a form, is not given.
        let given = |text: Option<String>| text.filter(|text| !text.trim().is_empty());
        let tags =
            given(self.tags).map(|text| text.parse().map_err(|error| bad("tags", error))).transpose()?;
        let versions = given(self.versions)
            .map(|text| text.parse().map_err(|error| bad("versions", error)))
            .transpose()?;
        let state = known("state", given(self.state), UpdateState::ALL.iter().map(|state| state.as_str()))?;
        let health = known("health", given(self.health), health::ALL)?;
        let error_code = known("error", given(self.error), codes())?;
        let standing = known("standing", given(self.standing), standings())?;
        let image = given(self.image).map(|text| digest(&text)).transpose()?.map(|digest| digest.0);
        Ok(Filter {
            text: given(self.q),
            product: given(self.product),
            version: given(self.version),
            chip: given(self.chip),
            state,
            health,
            reachable: self.reachable,
            error_code,
            rollout: self.rollout,
            standing,
            retired: self.retired,
            tags,
            versions,
            image,
        })
    }
}

fn digest(text: &str) -> Result<Digest, Problem> {
    text.parse().map_err(|_| Problem::invalid("a digest is a SHA-256: 64 hexadecimal digits"))
}

/// Returns the codes of all failures.
pub(crate) fn codes() -> impl Iterator<Item = &'static str> {
    let known = (1..u8::MAX).map(Code::from_number).filter(|code| *code != Code::Unknown);
    known.chain([Code::Unknown]).map(Code::as_str)
}

fn bad(name: &str, error: otaru_rollout::TextError) -> Problem {
    Problem::invalid(format!("`{name}` {}", error.pointed()))
}
