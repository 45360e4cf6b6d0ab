//! Events of a device, as its history has them.

use otaru_api::DeviceEvent;

/// Returns the id of the oldest event in an entry.
pub(super) fn first(event: &DeviceEvent) -> i64 {
    event.steps.first().map_or(event.id, |step| step.id)
}
