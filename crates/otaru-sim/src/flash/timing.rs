//! Durations of flash operations.

use std::time::Duration;

/// Durations of flash operations. Typical values of the W25Q-JV family (datasheet, AC characteristics).
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// Erase of 4 KiB.
    pub sector_erase: Duration,
    /// Erase of 64 KiB.
    pub block_erase: Duration,
    /// Program of a page.
    pub page_program: Duration,
    /// Read of a KiB, over quad SPI at 80 MHz with its overhead.
    pub read_kib: Duration,
}

impl Timing {
    /// W25Q-JV.
    pub const W25Q: Self = Self {
        sector_erase: Duration::from_millis(45),
        block_erase: Duration::from_millis(150),
        page_program: Duration::from_micros(400),
        read_kib: Duration::from_micros(100),
    };
    /// Takes no time.
    pub const INSTANT: Self = Self {
        sector_erase: Duration::ZERO,
        block_erase: Duration::ZERO,
        page_program: Duration::ZERO,
        read_kib: Duration::ZERO,
    };
}
