//! Limits of what is read from a bucket.

/// Bytes of the largest object that is read: a release file of the largest flash, with patches.
pub(super) const LARGEST: u64 = 64 << 20;
/// Files that are fetched at the same time.
pub(super) const FETCHES: usize = 4;
/// Least bytes of the copies near at hand: each fetch that may be under way has room for the largest file.
pub const LEAST_COPIES: u64 = FETCHES as u64 * LARGEST;
