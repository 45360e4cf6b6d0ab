//! A future raced against the clock.

use core::time::Duration;

use embassy_futures::select::{Either, select};

use crate::board::Clock;

/// The time was up first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TimedOut;

/// Runs `future` for at most `limit`, then drops it.
pub(crate) async fn within<C: Clock, T>(
    clock: &C,
    limit: Duration,
    future: impl Future<Output = T>,
) -> Result<T, TimedOut> {
    match select(future, clock.sleep(limit)).await {
        Either::First(value) => Ok(value),
        Either::Second(()) => Err(TimedOut),
    }
}
