//! A future raced against the clock, and times in print.
//!
//! The race is a future of its own because an `async fn` keeps its argument twice, which costs kilobytes here.

use core::pin::Pin;
use core::task::{Context, Poll};
use core::time::Duration;

use pin_project_lite::pin_project;

use crate::board::Clock;

/// Whole milliseconds, in 64 bits: to print the standard library's 128 takes code of its own, of 2 KB.
pub(crate) const fn millis(duration: Duration) -> u64 {
    duration.as_secs().saturating_mul(1000).saturating_add(duration.subsec_millis() as u64)
}

/// Whether so much time has passed since that moment, if there was one. In one place, because arithmetic of times takes 60 bytes of
/// flash each time.
#[inline(never)]
pub(crate) fn passed(since: Option<Duration>, span: Duration, now: Duration) -> bool {
    since.and_then(|since| now.checked_sub(since)).is_some_and(|time| time >= span)
}

/// The time was up first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TimedOut;

pin_project! {
    /// Future of [`within`].
    pub(crate) struct Within<F, S> {
        #[pin]
        future: F,
        #[pin]
        sleep: S,
    }
}

impl<F: Future, S: Future<Output = ()>> Future for Within<F, S> {
    type Output = Result<F::Output, TimedOut>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        match this.future.poll(cx) {
            Poll::Ready(value) => Poll::Ready(Ok(value)),
            Poll::Pending => this.sleep.poll(cx).map(|()| Err(TimedOut)),
        }
    }
}

/// Runs `future` for at most `limit`, then drops it.
pub(crate) fn within<C: Clock, F: Future>(
    clock: &C,
    limit: Duration,
    future: F,
) -> Within<F, impl Future<Output = ()>> {
    Within { future, sleep: clock.sleep(limit) }
}
