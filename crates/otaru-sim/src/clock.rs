//! A device's time: the host's, run faster where wanted. Under tokio's paused clock it is virtual.

use std::time::Duration;

use otaru_device::Clock;
use tokio::time::Instant;

/// Time since the device started, times a speed.
#[derive(Debug, Clone)]
pub struct SimClock {
    start: Instant,
    speed: f64,
}

impl SimClock {
    /// A clock that runs `speed` times as fast as the host's.
    pub fn new(speed: f64) -> Self {
        Self { start: Instant::now(), speed: if speed > 0.0 { speed } else { 1.0 } }
    }
}

impl SimClock {
    /// The clock after a start of the device: it begins anew.
    pub(crate) fn restarted(&self) -> Self {
        Self { start: Instant::now(), speed: self.speed }
    }
}

impl Clock for SimClock {
    fn now(&self) -> Duration {
        self.start.elapsed().mul_f64(self.speed)
    }

    async fn sleep(&self, duration: Duration) {
        // A pause nobody lives to see the end of must not overflow.
        tokio::time::sleep(duration.min(Duration::from_secs(1 << 30)).div_f64(self.speed)).await;
    }
}
