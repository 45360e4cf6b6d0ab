//! Pauses that double up to a cap, with jitter, so that a fleet does not return in step.

use core::time::Duration;

use rand_core::RngCore;

use crate::timeout::millis;

/// The pause before the next attempt.
#[derive(Debug, Clone, Copy)]
pub struct Backoff {
    first: u32,
    longest: u32,
    next: u32,
}

impl Backoff {
    /// Starts at `first` and never exceeds `longest`; both in whole milliseconds, of at most 49 days.
    pub const fn new((first, longest): (Duration, Duration)) -> Self {
        let (first, longest) = (bounded(first), bounded(longest));
        Self { first, longest, next: first }
    }

    /// The next pause: between half and all of the current step. The step then doubles.
    pub fn pause(&mut self, rng: &mut impl RngCore) -> Duration {
        let step = self.next.min(self.longest);
        self.next = step.saturating_mul(2).min(self.longest);
        let half = step / 2;
        Duration::from_millis((half + rng.next_u32() % (half + 1)).into())
    }

    /// Success: begin again at the first step.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

const fn bounded(duration: Duration) -> u32 {
    let millis = millis(duration);
    if millis > u32::MAX as u64 { u32::MAX } else { millis as u32 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_core::impls::{fill_bytes_via_next, next_u64_via_u32};

    /// Always the same number.
    struct Same(u32);

    impl RngCore for Same {
        fn next_u32(&mut self) -> u32 {
            self.0
        }

        fn next_u64(&mut self) -> u64 {
            next_u64_via_u32(self)
        }

        fn fill_bytes(&mut self, bytes: &mut [u8]) {
            fill_bytes_via_next(self, bytes);
        }
    }

    #[test]
    fn pauses_double_up_to_the_longest() {
        let mut backoff = Backoff::new((Duration::from_secs(2), Duration::from_secs(7)));
        let mut shortest = || backoff.pause(&mut Same(0)).as_millis();
        assert_eq!([shortest(), shortest(), shortest(), shortest()], [1000, 2000, 3500, 3500]);
        backoff.reset();
        assert_eq!(backoff.pause(&mut Same(1000)).as_millis(), 2000);
    }

    #[test]
    fn any_bounds_make_pauses() {
        for bounds in [Duration::ZERO, Duration::from_millis(1), Duration::from_secs(1), Duration::MAX] {
            for longest in [Duration::ZERO, Duration::from_millis(3), Duration::MAX] {
                for number in [0, 1, u32::MAX / 2, u32::MAX] {
                    let mut backoff = Backoff::new((bounds, longest));
                    (0..40).for_each(|_| {
                        assert!(backoff.pause(&mut Same(number)) <= longest);
                    });
                }
            }
        }
    }
}
