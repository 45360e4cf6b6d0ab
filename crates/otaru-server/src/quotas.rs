//! Quotas: so many at the same time for each owner, given back when they end.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

/// Quotas: how many holders each key may have at the same time. Keys that have none are not kept.
#[derive(Debug)]
pub struct Quotas<K> {
    most: usize,
    by_key: Mutex<HashMap<K, usize>>,
}

/// Permit of one holder; it counts until it is dropped.
#[derive(Debug)]
pub struct QuotaPermit<K: Eq + Hash> {
    quotas: Arc<Quotas<K>>,
    key: K,
}

impl<K: Eq + Hash + Clone> Quotas<K> {
    /// Each key may have `most` at the same time.
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, by_key: Mutex::default() })
    }

    /// One more for `key`; `None` when it has as many as it may.
    pub fn take(self: &Arc<Self>, key: K) -> Option<QuotaPermit<K>> {
        let mut all = self.lock();
        let count = all.get(&key).copied().unwrap_or(0);
        if count >= self.most {
            return None;
        }
        all.insert(key.clone(), count + 1);
        drop(all);
        Some(QuotaPermit { quotas: Arc::clone(self), key })
    }
}

impl<K> Quotas<K> {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<K, usize>> {
        self.by_key.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Eq + Hash> Drop for QuotaPermit<K> {
    fn drop(&mut self) {
        let mut all = self.quotas.lock();
        match all.get_mut(&self.key) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(all.remove(&self.key)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_makes_room() {
        let quotas = Quotas::new(2);
        let first = quotas.take("a");
        let second = quotas.take("a");
        assert!(first.is_some() && second.is_some());
        assert!(quotas.take("a").is_none());
        assert!(quotas.take("b").is_some(), "others have their own");
        drop(first);
        assert!(quotas.take("a").is_some());
        drop(second);
        assert!(quotas.lock().is_empty(), "nothing is kept of who has none");
    }
}
