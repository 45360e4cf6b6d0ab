//! Units in which a chip is erased and programmed.

/// Bytes of the usual chip.
pub const FLASH_LEN: u32 = 4 << 20;
/// Bytes of the smallest erase.
pub const SECTOR: u32 = 4096;
/// Bytes of the large erase.
pub const BLOCK: u32 = 64 << 10;
/// Bytes of a page, the most that is programmed at once.
pub const PAGE: u32 = 256;
