//! Rate of starts: how many there may be in a minute.

use serde::{Deserialize, Serialize};

use crate::time::Time;

/// Milliseconds of one slot.
const SLOT: u64 = 5_000;
/// A minute, wherever it begins, touches no more slots than this.
const SLOTS: u64 = 13;

/// The starts of the last minute, counted in slots of five seconds.
///
/// Whole slots are counted, so that no 60 seconds, wherever they begin, have more than the limit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct RecentStarts(Vec<(u64, u32)>);

impl RecentStarts {
    fn in_last_minute(&self, now: Time) -> u32 {
        let slot = now.0 / SLOT;
        self.0.iter().filter(|(at, _)| at.saturating_add(SLOTS) > slot).map(|(_, starts)| starts).sum()
    }

    /// Number of starts left.
    pub(crate) fn left(&self, limit: u32, now: Time) -> u32 {
        limit.saturating_sub(self.in_last_minute(now))
    }

    /// The moment from which one more may start than now.
    pub(crate) fn next_free(&self, now: Time) -> Time {
        let oldest = self.0.iter().map(|(at, _)| *at).min().unwrap_or(0);
        Time(oldest.saturating_add(SLOTS).saturating_mul(SLOT).max(now.0))
    }

    /// After the clock was set back, what it once showed counts as now, and not until it shows that again.
    pub(crate) fn follow_clock(&mut self, now: Time) {
        for (at, _) in &mut self.0 {
            *at = (now.0 / SLOT).min(*at);
        }
    }

    /// Counts one.
    pub(crate) fn count(&mut self, now: Time) {
        let slot = now.0 / SLOT;
        self.follow_clock(now);
        self.0.retain(|(at, _)| at.saturating_add(SLOTS) > slot);
        match self.0.iter_mut().find(|(at, _)| *at == slot) {
            Some((_, starts)) => *starts = starts.saturating_add(1),
            None => self.0.push((slot, 1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_minute_has_more() {
        let mut recent = RecentStarts::default();
        let mut starts = Vec::new();
        for now in (4_999..600_000).step_by(700).map(Time) {
            if recent.left(7, now) > 0 {
                recent.count(now);
                starts.push(now.0);
            }
            assert!(starts.iter().filter(|at| **at + 60_000 > now.0).count() <= 7);
        }
        assert!(starts.len() >= 7 * 9, "{}", starts.len());
        assert!(recent.0.len() <= 13);
    }

    #[test]
    fn a_clock_that_is_set_back_does_not_block() {
        let mut recent = RecentStarts::default();
        recent.count(Time(1_000_000_000));
        assert_eq!(recent.left(2, Time(500_000)), 1);
        recent.count(Time(500_000));
        assert_eq!(recent.left(2, Time(500_000)), 0);
        assert_eq!(recent.left(2, Time(565_000)), 2);
        assert_eq!(recent.next_free(Time(510_000)), Time(565_000));
    }
}
