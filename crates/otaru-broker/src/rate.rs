//! Rates: a bucket that fills with time.

use std::time::{Duration, Instant};

use crate::settings::Rate;

/// Bucket of a [`Rate`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bucket {
    /// Moment at which it is full again.
    full_at: Instant,
}

impl Bucket {
    pub(crate) fn full(now: Instant) -> Self {
        Self { full_at: now }
    }

    pub(crate) fn is_full(self, now: Instant) -> bool {
        self.full_at <= now
    }

    /// Gives one back that was taken.
    pub(crate) fn give_back(&mut self, rate: Rate) {
        let each = Duration::from_secs(60).checked_div(rate.per_minute);
        self.full_at = each.and_then(|each| self.full_at.checked_sub(each)).unwrap_or(self.full_at);
    }

    /// Takes one, if there is one.
    pub(crate) fn take(&mut self, rate: Rate, now: Instant) -> bool {
        let Some(each) = Duration::from_secs(60).checked_div(rate.per_minute) else {
            return false;
        };
        let depth = each.saturating_mul(rate.burst);
        let full_at = self.full_at.max(now) + each;
        let fits = full_at.saturating_duration_since(now) <= depth;
        if fits {
            self.full_at = full_at;
        }
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_the_rate() {
        let (start, rate) = (Instant::now(), Rate { burst: 3, per_minute: 60 });
        let mut bucket = Bucket::full(start);
        let taken = |bucket: &mut Bucket, at| (0..10).filter(|_| bucket.take(rate, at)).count();
        assert_eq!(taken(&mut bucket, start), 3);
        assert_eq!(taken(&mut bucket, start + Duration::from_secs(2)), 2);
        assert_eq!(taken(&mut bucket, start + Duration::from_secs(100)), 3, "no more than the burst");
        bucket.give_back(rate);
        assert_eq!(taken(&mut bucket, start + Duration::from_secs(100)), 1);
        assert!(!bucket.is_full(start) && bucket.is_full(start + Duration::from_secs(200)));
        assert!(!Bucket::full(start).take(Rate { burst: 3, per_minute: 0 }, start));
    }
}
