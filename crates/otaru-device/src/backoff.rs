//! Pauses that double up to a cap, with jitter, so that a fleet does not return in step.

use core::time::Duration;

use rand_core::RngCore;

use crate::timeout::millis;

/// The pause before the next attempt.
#[derive(Debug, Clone, Copy)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Backoff {
    /// Starts at `first` and never exceeds `longest`.
    pub const fn new((first, longest): (Duration, Duration)) -> Self {
        Self { first, longest, next: first }
    }

    /// The next pause: between half and all of the current step. The step then doubles.
    pub fn pause(&mut self, rng: &mut impl RngCore) -> Duration {
        let step = self.next.min(self.longest);
        self.next = step.saturating_mul(2).min(self.longest);
        let half = step / 2;
        let span = millis(half).saturating_add(1);
        half + Duration::from_millis(rng.next_u64() % span)
    }

    /// Success: begin again at the first step.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}
