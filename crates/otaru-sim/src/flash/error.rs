//! Reasons for an operation to fail.

use embedded_storage_async::nor_flash::{NorFlashError, NorFlashErrorKind};

/// Why an operation failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlashError {
    /// There is no power.
    PowerLost,
    /// Beyond the chip's end.
    OutOfBounds,
    /// Not aligned.
    NotAligned,
    /// The dump's file failed.
    File,
    /// The part cannot be read at present.
    Unreadable,
}

impl NorFlashError for FlashError {
    fn kind(&self) -> NorFlashErrorKind {
        match self {
            Self::OutOfBounds => NorFlashErrorKind::OutOfBounds,
            Self::NotAligned => NorFlashErrorKind::NotAligned,
            Self::PowerLost | Self::File | Self::Unreadable => NorFlashErrorKind::Other,
        }
    }
}
