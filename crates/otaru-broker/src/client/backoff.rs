//! Pauses between attempts: each is twice as long as the one before, up to a limit, and a part of it is chance, so that clients that lost
//! the same broker do not come back in one moment.

use std::time::Duration;

/// Lengths of pauses. The first lasts half of `shortest` at least, none longer than `longest`.
pub(super) struct BackOff {
    shortest: Duration,
    longest: Duration,
    next: Duration,
}

impl BackOff {
    pub(super) fn new(shortest: Duration, longest: Duration) -> Self {
        Self { shortest, longest, next: shortest }
    }

    /// Returns the next pause.
    pub(super) fn pause(&mut self) -> Duration {
        let whole = self.next;
        self.next = (whole * 2).min(self.longest);
        whole.mul_f64(rand::random_range(0.5..=1.0))
    }

    /// Takes how long a connection lasted: after one that stood, the next pause is short again.
    pub(super) fn lasted(&mut self, connected: Duration) {
        if connected > self.longest * 2 {
            self.next = self.shortest;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit_and_shrink_after_a_connection_that_stood() {
        let seconds = Duration::from_secs;
        let mut back_off = BackOff::new(seconds(1), seconds(10));
        for whole in [1, 2, 4, 8, 10, 10] {
            let pause = back_off.pause();
            assert!(pause >= seconds(whole) / 2 && pause <= seconds(whole), "{pause:?} of {whole} s");
        }
        back_off.lasted(seconds(20));
        assert!(back_off.pause() >= seconds(5), "it broke at once");
        back_off.lasted(seconds(21));
        assert!(back_off.pause() <= seconds(1));
    }
}
