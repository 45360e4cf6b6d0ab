//! Time, from `embassy-time`.
#![forbid(unsafe_code)]

use core::time::Duration;

use embassy_time::{Instant, Timer};
use otaru_device::Clock;

/// The chip's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct EspClock;

impl Clock for EspClock {
    fn now(&self) -> Duration {
        Duration::from_micros(Instant::now().as_micros())
    }

    async fn sleep(&self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        Timer::after(embassy_time::Duration::from_micros(micros)).await;
    }
}
