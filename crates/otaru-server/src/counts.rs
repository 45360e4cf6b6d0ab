//! Concurrent holders, counted by owner: each owner may have so many, and gives them back when they end.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

/// Counts by key. Keys that have none are not kept.
#[derive(Debug)]
pub struct Counts<K> {
    most: usize,
    by_key: Mutex<HashMap<K, usize>>,
}

/// One of them; counted until this is dropped.
#[derive(Debug)]
pub struct Counted<K: Eq + Hash> {
    counts: Arc<Counts<K>>,
    key: K,
}

impl<K: Eq + Hash + Clone> Counts<K> {
    /// Each key may have `most` at the same time.
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, by_key: Mutex::default() })
    }

    /// One more for `key`; `None` when it has as many as it may.
    pub fn take(self: &Arc<Self>, key: K) -> Option<Counted<K>> {
        let mut all = self.lock();
        let count = all.get(&key).copied().unwrap_or(0);
        if count >= self.most {
            return None;
        }
        all.insert(key.clone(), count + 1);
        drop(all);
        Some(Counted { counts: Arc::clone(self), key })
    }
}

impl<K> Counts<K> {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<K, usize>> {
        self.by_key.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Eq + Hash> Drop for Counted<K> {
    fn drop(&mut self) {
        let mut all = self.counts.lock();
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
        let counts = Counts::new(2);
        let first = counts.take("a");
        let second = counts.take("a");
        assert!(first.is_some() && second.is_some());
        assert!(counts.take("a").is_none());
        assert!(counts.take("b").is_some(), "others have their own");
        drop(first);
        assert!(counts.take("a").is_some());
        drop(second);
        assert!(counts.lock().is_empty(), "nothing is kept of who has none");
    }
}
