//! Filters of queries for devices, as they stand in a URL or a body.

use otaru_api::DeviceQuery;
use otaru_format::digest::Digest;
use otaru_format::status::{Code, UpdateState};

use super::filter::Filter;
use super::health;
use crate::problem::Problem;
use crate::rollouts::deployments::standings;
use crate::similar::known;

/// Returns the filter that a query means.
///
/// # Errors
/// When a part of it cannot be read.
pub(crate) fn filter(query: DeviceQuery) -> Result<Filter, Problem> {
    // What is left empty, as in a form, is not given.
    let given = |text: Option<String>| text.filter(|text| !text.trim().is_empty());
    let tags = given(query.tags).map(|text| text.parse().map_err(|error| bad("tags", error))).transpose()?;
    let versions =
        given(query.versions).map(|text| text.parse().map_err(|error| bad("versions", error))).transpose()?;
    let state = known("state", given(query.state), UpdateState::ALL.iter().map(|state| state.as_str()))?;
    let health = known("health", given(query.health), health::ALL)?;
    let error_code = known("error", given(query.error), codes())?;
    let standing = known("standing", given(query.standing), standings())?;
    if standing.is_some() && query.rollout.is_none() {
        return Err(Problem::invalid(
            "`standing` is that of a deployment: give `rollout`, the id of its rollout, as well",
        ));
    }
    let only_trusts = given(query.only_trusts).map(|text| ca(&text)).transpose()?;
    let image = given(query.image).map(|text| digest(&text)).transpose()?.map(|digest| digest.0);
    Ok(Filter {
        text: given(query.q),
        product: given(query.product),
        version: given(query.version),
        chip: given(query.chip),
        state,
        health,
        reachable: query.reachable,
        only_trusts,
        error_code,
        rollout: query.rollout,
        standing,
        retired: query.retired,
        tags,
        versions,
        image,
    })
}

fn digest(text: &str) -> Result<Digest, Problem> {
    text.parse().map_err(|_| Problem::invalid("a digest is a SHA-256: 64 hexadecimal digits"))
}

/// Reads the id of a CA: 16 digits, or a whole fingerprint as programs print it, whose first 16 these are.
fn ca(text: &str) -> Result<String, Problem> {
    let digits: String = text.chars().filter(|c| *c != ':' && !c.is_whitespace()).collect();
    match digits.get(..16).filter(|_| matches!(digits.len(), 16 | 64)) {
        Some(id) if digits.bytes().all(|byte| byte.is_ascii_hexdigit()) => Ok(id.to_ascii_lowercase()),
        _ => Err(Problem::invalid(
            "`only_trusts` is the SHA-256 of a CA's certificate, 64 hexadecimal digits, or the first 16 of them, as `otaru devices show` \
             names it",
        )),
    }
}

/// Returns the codes of all failures.
pub(crate) fn codes() -> impl Iterator<Item = &'static str> {
    let known = (1..u8::MAX).map(Code::from_number).filter(|code| *code != Code::Unknown);
    known.chain([Code::Unknown]).map(Code::as_str)
}

fn bad(name: &str, error: otaru_rollout::TextError) -> Problem {
    Problem::invalid(format!("`{name}` {}", error.pointed()))
}
