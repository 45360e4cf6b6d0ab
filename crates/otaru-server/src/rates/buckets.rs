//! Token buckets: what each key of a rate limit may do still. Those of a fleet count what its other servers let pass, too.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};

use otaru_rollout::{Span, Time};

/// The most keys that are counted.
pub(super) const COUNTED: usize = 10_000;
/// The most keys whose uses wait to be told to other servers. More at once are counted by each server for itself.
const UNTOLD: usize = 64;

/// Uses of a limit that are allowed at once, and after how long one more is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rate {
    pub(super) burst: u32,
    pub(super) refill: Span,
}

/// Allowance left to each key of a rate limit.
#[derive(Debug)]
pub(super) struct Buckets<K>(Mutex<HashMap<K, Bucket>>);

#[derive(Debug, Clone, Copy)]
struct Bucket {
    /// Below 0 where other servers let something pass at the same time; never further than a full bucket.
    left: i64,
    filled: Time,
}

impl Bucket {
    fn filled_until(self, rate: Rate, now: Time) -> Self {
        let more = now.since(self.filled).0 / rate.refill.0;
        let left = self.left.saturating_add(more.try_into().unwrap_or(i64::MAX));
        match left >= i64::from(rate.burst) {
            true => Self { left: rate.burst.into(), filled: now },
            false => Self { left, filled: Time(self.filled.0 + more * rate.refill.0) },
        }
    }
}

impl<K> Default for Buckets<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash> Buckets<K> {
    /// Counts one more; whether it is allowed.
    pub(super) fn count(&self, key: K, rate: Rate, now: Time) -> bool {
        self.with(key, rate, now, |left| {
            let may = *left > 0;
            *left -= i64::from(may);
            may
        })
    }

    /// Counts so many that others let pass.
    fn passed_elsewhere(&self, key: K, times: u32, rate: Rate, now: Time) {
        self.with(key, rate, now, |left| *left = (*left - i64::from(times)).max(-i64::from(rate.burst)));
    }

    /// Whether one more would be allowed.
    pub(super) fn has_room(&self, key: &K, rate: Rate, now: Time) -> bool {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(key).is_none_or(|bucket| bucket.filled_until(rate, now).left > 0)
    }

    /// Gives back one that was counted and came to nothing.
    fn give_back(&self, key: &K, rate: Rate) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bucket) = all.get_mut(key) {
            bucket.left = bucket.left.saturating_add(1).min(rate.burst.into());
        }
    }

    /// Changes what is left to a key.
    fn with<T>(&self, key: K, rate: Rate, now: Time, change: impl FnOnce(&mut i64) -> T) -> T {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= COUNTED && !all.contains_key(&key) {
            all.retain(|_, bucket| bucket.filled_until(rate, now).left < i64::from(rate.burst));
            if all.len() >= COUNTED {
                all.clear();
            }
        }
        let bucket = all.entry(key).or_insert(Bucket { left: rate.burst.into(), filled: now });
        *bucket = bucket.filled_until(rate, now);
        change(&mut bucket.left)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

/// Token buckets of a limit that is the fleet's: each server tells the others what it let pass.
#[derive(Debug)]
pub(super) struct FleetBuckets<K> {
    buckets: Buckets<K>,
    /// Uses that no other server has heard of; a lone server tells nobody.
    untold: Mutex<HashMap<K, u32>>,
}

impl<K> Default for FleetBuckets<K> {
    fn default() -> Self {
        Self { buckets: Buckets::default(), untold: Mutex::default() }
    }
}

impl<K: Eq + Hash + Clone> FleetBuckets<K> {
    /// Counts one more; whether it is allowed.
    pub(super) fn count(&self, key: K, rate: Rate, now: Time) -> bool {
        let may = self.reserve(key.clone(), rate, now);
        if may {
            self.passed(key);
        }
        may
    }

    /// Counts one more that may come to nothing yet: [passed](Self::passed) or [given back](Self::give_back) later. Whether it is allowed.
    pub(super) fn reserve(&self, key: K, rate: Rate, now: Time) -> bool {
        self.buckets.count(key, rate, now)
    }

    /// Notes that one passed, for others to hear.
    pub(super) fn passed(&self, key: K) {
        let mut untold = self.untold.lock().unwrap_or_else(PoisonError::into_inner);
        if untold.len() < UNTOLD || untold.contains_key(&key) {
            let times = untold.entry(key).or_default();
            *times = times.saturating_add(1);
        }
    }

    /// Gives back one that was reserved and came to nothing.
    pub(super) fn give_back(&self, key: &K, rate: Rate) {
        self.buckets.give_back(key, rate);
    }

    /// Whether one more would be allowed.
    pub(super) fn has_room(&self, key: &K, rate: Rate, now: Time) -> bool {
        self.buckets.has_room(key, rate, now)
    }

    /// Takes what others have not heard of.
    pub(super) fn take_untold(&self) -> Vec<(K, u32)> {
        let mut untold = self.untold.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *untold).into_iter().collect()
    }

    /// Counts what others let pass.
    pub(super) fn passed_elsewhere(&self, passed: Vec<(K, u32)>, rate: Rate, now: Time) {
        for (key, times) in passed {
            self.buckets.passed_elsewhere(key, times, rate, now);
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.buckets.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { burst: 10, refill: Span::seconds(3) };
    const START: Time = Time(1_000_000);

    /// Somebody tries at all servers at once, and each hears of the others a moment later.
    fn attack(servers: &[FleetBuckets<u8>], at: Time) -> usize {
        let passed = |server: &FleetBuckets<u8>| (0..100).filter(|_| server.count(1, RATE, at)).count();
        let passed = servers.iter().map(passed).sum();
        let told: Vec<_> = servers.iter().map(FleetBuckets::take_untold).collect();
        for (me, server) in servers.iter().enumerate() {
            let others = told.iter().enumerate().filter(|(other, _)| *other != me);
            others.for_each(|(_, told)| server.passed_elsewhere(told.clone(), RATE, at));
        }
        passed
    }

    #[test]
    fn several_servers_let_no_more_pass_than_one_but_for_a_moment() {
        let servers = [FleetBuckets::default(), FleetBuckets::default(), FleetBuckets::default()];
        assert_eq!(attack(&servers, START), 30, "before any hears of another");
        let hour = |n: u64| START + Span::seconds(n);
        let later: usize = (1..=3_600).map(|second| attack(&servers, hour(second))).sum();
        // A debt never grows beyond a full bucket.
        assert!((1_180..=1_200).contains(&later), "1,200 in an hour: {later}");
    }

    #[test]
    fn a_debt_is_bounded() {
        let bucket = FleetBuckets::default();
        bucket.passed_elsewhere(vec![(1, u32::MAX), (1, u32::MAX)], RATE, START);
        assert!(!bucket.has_room(&1, RATE, START + Span::seconds(30)));
        assert!(bucket.has_room(&1, RATE, START + Span::seconds(33)));
        assert!(bucket.take_untold().is_empty(), "what others told is not told again");
    }

    #[test]
    fn what_nobody_asks_for_is_bounded() {
        let bucket = FleetBuckets::default();
        (0..10_000).for_each(|key| assert!(bucket.count(key, RATE, START)));
        (0..5).for_each(|_| assert!(bucket.count(1, RATE, START)));
        let untold = bucket.take_untold();
        assert_eq!(untold.len(), UNTOLD);
        assert!(untold.contains(&(1, 6)));
        assert!(bucket.take_untold().is_empty());
    }
}
