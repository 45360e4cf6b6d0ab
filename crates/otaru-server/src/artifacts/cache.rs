//! Whole files in memory, and how much memory they may take.
//!
//! A file that was dropped from the cache stays in memory as long as somebody downloads it. So each takes its bytes from a budget,
//! and gives them back with its last reader: however slow the readers are, memory has a bound. A file that finds no room
//! is read from the disk, piece by piece.

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use otaru_format::digest::Digest;
use quick_cache::sync::{Cache as QuickCache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, Weighter};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::error::ArtifactError;

/// Usual size of the cache in memory, in bytes.
pub const DEFAULT_MEMORY: u64 = 256 << 20;
/// The largest file that is held in memory, in bytes.
pub const CACHED_FILE: u64 = 32 << 20;
/// Unit of the budget, in bytes: its counter has 32 bits.
const UNIT: u64 = 4096;
/// An estimate of how many files are held, for the cache's own tables.
const FILES: usize = 256;

#[derive(Clone)]
struct Weigh;

impl Weighter<Digest, Bytes> for Weigh {
    fn weight(&self, _: &Digest, bytes: &Bytes) -> u64 {
        bytes.len() as u64
    }
}

pub(super) struct Cache {
    files: QuickCache<Digest, Bytes, Weigh>,
    largest: u64,
    /// Twice the cache: as much again for files that were dropped from it and still have readers.
    budget: Arc<Semaphore>,
}

/// Why a file was not loaded.
enum NotLoaded {
    NoRoom,
    Failed(ArtifactError),
}

/// Bytes that give back their part of the budget with their last reader.
struct Counted {
    bytes: Bytes,
    _permit: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Cache {
    pub(super) fn new(capacity: u64) -> Self {
        let mut options = OptionsBuilder::new();
        // One shard: a file may be nearly as large as the cache, and no shard must be too small for it.
        options.estimated_items_capacity(FILES).weight_capacity(capacity).shards(1);
        let options = options.build().unwrap_or_else(|_| unreachable!("all that is needed is set"));
        let hasher = DefaultHashBuilder::default();
        let files = QuickCache::with_options(options, Weigh, hasher, DefaultLifecycle::default());
        let budget = usize::try_from(capacity.saturating_mul(2) / UNIT).unwrap_or(usize::MAX);
        Self {
            files,
            largest: CACHED_FILE.min(capacity / 2),
            budget: Arc::new(Semaphore::new(budget.min(Semaphore::MAX_PERMITS))),
        }
    }

    pub(super) fn get(&self, digest: Digest) -> Option<Bytes> {
        self.files.get(&digest)
    }

    pub(super) fn forget(&self, digest: Digest) {
        self.files.remove(&digest);
    }

    /// A file of `len` bytes; whoever asks first loads it, and the others wait. `None` if there is no room for it.
    pub(super) async fn load(
        &self,
        digest: Digest,
        len: u64,
        read: impl Future<Output = Result<Bytes, ArtifactError>>,
    ) -> Result<Option<Bytes>, ArtifactError> {
        if len > self.largest {
            return Ok(None);
        }
        let load = async {
            let units = u32::try_from(len.div_ceil(UNIT)).map_err(|_| NotLoaded::NoRoom)?;
            let permit = Arc::clone(&self.budget).try_acquire_many_owned(units);
            let permit = permit.map_err(|_| NotLoaded::NoRoom)?;
            let bytes = read.await.map_err(NotLoaded::Failed)?;
            Ok(Bytes::from_owner(Counted { bytes, _permit: permit }))
        };
        match self.files.get_or_insert_async(&digest, load).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(NotLoaded::NoRoom) => Ok(None),
            Err(NotLoaded::Failed(error)) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn digest(n: u8) -> Digest {
        Digest([n; 32])
    }

    async fn bytes(len: u64) -> Result<Bytes, ArtifactError> {
        Ok(Bytes::from(vec![7; len as usize]))
    }

    #[tokio::test]
    async fn one_loads_and_the_others_wait() {
        let (cache, loads) = (Cache::new(1 << 20), AtomicUsize::new(0));
        let load = async || {
            let read = async {
                loads.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
                bytes(10).await
            };
            cache.load(digest(1), 10, read).await.unwrap().unwrap()
        };
        let (a, b, c) = tokio::join!(load(), load(), load());
        assert_eq!((a.len(), b.len(), c.len()), (10, 10, 10));
        assert_eq!(loads.into_inner(), 1);
    }

    #[tokio::test]
    async fn a_failed_load_is_tried_again() {
        let cache = Cache::new(1 << 20);
        let failing = async { Err(ArtifactError::Missing(digest(1))) };
        assert!(matches!(cache.load(digest(1), 10, failing).await, Err(ArtifactError::Missing(_))));
        assert!(cache.load(digest(1), 10, bytes(10)).await.unwrap().is_some());
    }

    #[tokio::test]
    async fn memory_has_a_bound_though_readers_are_slow() {
        const FILE: u64 = 256 << 10;
        let cache = Cache::new(1 << 20);
        let mut readers = Vec::new();
        for n in 0..100 {
            readers.extend(cache.load(digest(n), FILE, bytes(FILE)).await.unwrap());
        }
        assert_eq!(readers.len(), 8, "twice the cache, and no more");
        drop(readers);
        for n in 100..120 {
            assert!(cache.load(digest(n), FILE, bytes(FILE)).await.unwrap().is_some());
        }
    }

    #[tokio::test]
    async fn without_memory_every_file_stays_on_disk() {
        let cache = Cache::new(0);
        let unread = async { Err(ArtifactError::Missing(digest(1))) };
        assert!(cache.load(digest(1), 1, unread).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_large_file_stays_on_disk() {
        let cache = Cache::new(1 << 30);
        let unread = async { Err(ArtifactError::Missing(digest(1))) };
        assert!(cache.load(digest(1), CACHED_FILE + 1, unread).await.unwrap().is_none());
    }
}
