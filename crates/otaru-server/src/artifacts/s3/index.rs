//! Copies that there are near at hand: how much room they take, and which one was used least recently.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lru::LruCache;
use otaru_format::digest::Digest;

/// Copies near at hand, by their digest.
pub(super) struct Index(Mutex<Copies>);

struct Copies {
    files: LruCache<Digest, u64>,
    /// Bytes of them, and of those that are still coming.
    used: u64,
    room: u64,
}

/// Room for a copy that is still coming. Dropped, it is given back.
pub(super) struct Reserved {
    index: Arc<Index>,
    len: u64,
}

impl Index {
    /// Makes an empty one, for copies of so many bytes together.
    pub(super) fn new(room: u64) -> Self {
        Self(Mutex::new(Copies { files: LruCache::unbounded(), used: 0, room }))
    }

    /// Whether there is a copy; it counts as used just now.
    pub(super) fn touch(&self, digest: Digest) -> bool {
        self.lock().files.get(&digest).is_some()
    }

    /// Forgets a copy.
    pub(super) fn forget(&self, digest: Digest) {
        let mut copies = self.lock();
        let len = copies.files.pop(&digest).unwrap_or_default();
        copies.used -= len;
    }

    /// Reserves room for a copy. Gives back the copies that have to go for it, from the one that was used least recently on; `None` where
    /// all room is for copies that are still coming.
    pub(super) fn reserve(self: &Arc<Self>, len: u64) -> Option<(Reserved, Vec<Digest>)> {
        let mut copies = self.lock();
        let kept: u64 = copies.files.iter().map(|(_, len)| len).sum();
        if copies.used - kept + len > copies.room {
            return None;
        }
        let mut gone = Vec::new();
        while copies.used + len > copies.room {
            let (digest, len) = copies.files.pop_lru()?;
            copies.used -= len;
            gone.push(digest);
        }
        copies.used += len;
        Some((Reserved { index: Arc::clone(self), len }, gone))
    }

    /// Bytes of all copies, and of those that are still coming.
    #[cfg(test)]
    pub(super) fn used(&self) -> u64 {
        self.lock().used
    }

    fn lock(&self) -> MutexGuard<'_, Copies> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reserved {
    /// Notes that the copy is there.
    pub(super) fn fill(mut self, digest: Digest) {
        let mut copies = self.index.lock();
        let before = copies.files.put(digest, self.len).unwrap_or_default();
        copies.used -= before;
        drop(copies);
        self.len = 0;
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.index.lock().used -= self.len;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(n: u8) -> Digest {
        Digest([n; 32])
    }

    fn with(lens: &[u64], room: u64) -> Arc<Index> {
        let index = Arc::new(Index::new(room));
        for (n, len) in lens.iter().enumerate() {
            index.reserve(*len).unwrap().0.fill(digest(n as u8));
        }
        index
    }

    #[test]
    fn what_was_used_least_recently_goes_first() {
        let index = with(&[40, 40, 20], 100);
        assert!(index.touch(digest(0)));
        let (reserved, gone) = index.reserve(50).unwrap();
        assert_eq!(gone, [digest(1), digest(2)]);
        reserved.fill(digest(9));
        assert!(index.touch(digest(0)) && index.touch(digest(9)) && !index.touch(digest(1)));
        assert_eq!(index.used(), 90);
    }

    #[test]
    fn copies_that_are_coming_keep_their_room_until_they_come_or_do_not() {
        let index = with(&[40], 100);
        let (first, _) = index.reserve(60).unwrap();
        let (second, gone) = index.reserve(40).unwrap();
        assert_eq!(gone, [digest(0)]);
        assert!(index.reserve(1).is_none(), "all room is spoken for");
        assert!(index.reserve(101).is_none());
        drop(first);
        assert_eq!(index.used(), 40);
        second.fill(digest(1));
        assert!(index.reserve(100).is_some(), "the bound is a bound of all of them");
    }

    #[test]
    fn a_copy_that_comes_twice_counts_once() {
        let index = with(&[40], 100);
        index.reserve(40).unwrap().0.fill(digest(0));
        assert_eq!(index.used(), 40);
        index.forget(digest(0));
        index.forget(digest(0));
        assert_eq!(index.used(), 0);
    }
}
