//! Pauses that double up to a cap, with jitter, so that a fleet does not return in step.

use core::time::Duration;

use rand_core::RngCore;

use crate::timeout::millis;

/// Pauses between attempts. Each is twice as long as the one before, less up to half of it by chance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Backoff {
    /// The first pause, in whole milliseconds and of at most 49 days.
    #[cfg_attr(feature = "defmt", defmt(Debug2Format))]
    pub first: Duration,
    /// The longest pause, likewise.
    #[cfg_attr(feature = "defmt", defmt(Debug2Format))]
    pub longest: Duration,
}

/// The pauses that a [`Backoff`] makes, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pauses {
    first: u32,
    longest: u32,
    next: u32,
}

impl Pauses {
    /// Begins with the first.
    pub(crate) const fn new(backoff: Backoff) -> Self {
        let (first, longest) = (bounded(backoff.first), bounded(backoff.longest));
        Self { first, longest, next: first }
    }

    /// Returns the next pause: between half and all of the current step. The step then doubles.
    pub(crate) fn pause(&mut self, rng: &mut impl RngCore) -> Duration {
        let step = self.next.min(self.longest);
        self.next = step.saturating_mul(2).min(self.longest);
        let half = step / 2;
        Duration::from_millis((half + rng.next_u32() % (half + 1)).into())
    }

    /// Begins again at the first step, after a success.
    pub(crate) fn reset(&mut self) {
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
        let (first, longest) = (Duration::from_secs(2), Duration::from_secs(7));
        let mut pauses = Pauses::new(Backoff { first, longest });
        let mut shortest = || pauses.pause(&mut Same(0)).as_millis();
        assert_eq!([shortest(), shortest(), shortest(), shortest()], [1000, 2000, 3500, 3500]);
        pauses.reset();
        assert_eq!(pauses.pause(&mut Same(1000)).as_millis(), 2000);
    }

    #[test]
    fn any_bounds_make_pauses() {
        for first in [Duration::ZERO, Duration::from_millis(1), Duration::from_secs(1), Duration::MAX] {
            for longest in [Duration::ZERO, Duration::from_millis(3), Duration::MAX] {
                for number in [0, 1, u32::MAX / 2, u32::MAX] {
                    let mut pauses = Pauses::new(Backoff { first, longest });
                    (0..40).for_each(|_| {
                        assert!(pauses.pause(&mut Same(number)) <= longest);
                    });
                }
            }
        }
    }
}
