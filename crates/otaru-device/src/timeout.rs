//! A future raced against the clock.
//!
//! Written as a future of its own because an `async fn` keeps its argument twice, which costs kilobytes here.

use core::pin::Pin;
use core::task::{Context, Poll};
use core::time::Duration;

use pin_project_lite::pin_project;

use crate::board::Clock;

/// The time was up first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TimedOut;

pin_project! {
    /// What [`within`] makes.
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
