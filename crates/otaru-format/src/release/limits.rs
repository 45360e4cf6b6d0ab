//! Limits that every release keeps to.

use super::header::{HEADER_LEN, MAX_ENVELOPE};

/// Most payloads in one file.
pub const MAX_PAYLOADS: usize = 16;
/// Most keys one release can revoke.
pub const MAX_REVOKED: usize = 4;
/// Most further products one release can be for.
pub const MAX_ALSO: usize = 4;
/// Bytes of the longest product name or version: what an application descriptor holds.
pub const MAX_TEXT: usize = 32;
/// The highest sequence: the largest whole number that every program reads from JSON exactly (RFC 8259, section 6).
pub const MAX_SEQUENCE: u64 = (1 << 53) - 1;
/// Bytes of the dictionary LZMA frames are made with.
pub const LZMA_DICTIONARY: u32 = 16384;

/// Most bytes of a payload area: with these, every position in the file is a `u32`.
pub(super) const MAX_AREA: u32 = u32::MAX - (HEADER_LEN + MAX_ENVELOPE) as u32;
