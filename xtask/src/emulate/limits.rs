//! Time that a start and an update may take on an emulator.

use std::time::Duration;

/// Most time from a start until the broker has the device's report: ample, for an emulator on a busy machine.
pub(super) const START: Duration = Duration::from_secs(150);
/// Most time for an update, its restart included.
pub(super) const UPDATE: Duration = Duration::from_secs(400);
