//! A page of flash in memory: what is programmed at once.

/// Bytes of a flash page, the most that is programmed at once.
pub(super) const PAGE: usize = 256;

/// A page that fills up, or is read.
pub(super) type Page = [u8; PAGE];

/// An unused page.
pub(super) const BLANK: Page = [0; PAGE];
