//! The flash chip, one short step at a time.
//!
//! While flash is erased or written nothing can be fetched from it, so interrupts are off and the whole program
//! stands still: that is the hardware's doing. What can be done is to keep each step short and to let the others
//! run after it. The longest step is one 64 KiB block (150 ms typical on a W25Q-JV); a page takes 0.4 ms.
#![forbid(unsafe_code)]

use embassy_futures::yield_now;
use embedded_storage_async::nor_flash::{
    ErrorType, MultiwriteNorFlash, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash,
};
use esp_hal::peripherals::FLASH;
use esp_storage::{FlashStorage, FlashStorageError};
use portable_atomic::{AtomicU32, Ordering};

const BLOCK: u32 = FlashStorage::BLOCK_SIZE;
/// Bytes read or written between two looks at the other tasks.
const STEP: usize = 4096;
/// A read from which on it is probably one of many, such as for a hash, and the others should have their turn.
const LONG: usize = 512;

/// Bytes of the flash chip, for the board; 0 until it was looked at.
static SIZE: AtomicU32 = AtomicU32::new(0);

/// Bytes of the flash chip, once there is an [`EspFlash`].
pub(crate) fn size() -> Option<u32> {
    Some(SIZE.load(Ordering::Relaxed)).filter(|size| *size != 0)
}

/// The whole flash chip.
#[derive(Debug)]
pub struct EspFlash<'d>(FlashStorage<'d>);

impl<'d> EspFlash<'d> {
    /// Takes the flash. On chips with two cores the other one is parked during each write.
    pub fn new(flash: FLASH<'d>) -> Self {
        let storage = FlashStorage::new(flash);
        SIZE.store(u32::try_from(storage.capacity()).unwrap_or(0), Ordering::Relaxed);
        #[cfg(any(feature = "esp32", feature = "esp32s3"))]
        let storage = storage.multicore_auto_park();
        Self(storage)
    }
}

/// The flash failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EspFlashError(pub FlashStorageError);

impl NorFlashError for EspFlashError {
    fn kind(&self) -> NorFlashErrorKind {
        match self.0 {
            FlashStorageError::NotAligned => NorFlashErrorKind::NotAligned,
            FlashStorageError::OutOfBounds => NorFlashErrorKind::OutOfBounds,
            _ => NorFlashErrorKind::Other,
        }
    }
}

impl ErrorType for EspFlash<'_> {
    type Error = EspFlashError;
}

impl ReadNorFlash for EspFlash<'_> {
    const READ_SIZE: usize = 1;

    async fn read(&mut self, mut offset: u32, bytes: &mut [u8]) -> Result<(), EspFlashError> {
        let long = bytes.len() >= LONG;
        for part in bytes.chunks_mut(STEP) {
            self.0.read_nor(offset, part).map_err(EspFlashError)?;
            offset += part.len() as u32;
            if long {
                yield_now().await;
            }
        }
        Ok(())
    }

    fn capacity(&self) -> usize {
        self.0.capacity()
    }
}

impl NorFlash for EspFlash<'_> {
    const WRITE_SIZE: usize = FlashStorage::WRITE_SIZE;
    const ERASE_SIZE: usize = FlashStorage::ERASE_SIZE;

    async fn erase(&mut self, from: u32, to: u32) -> Result<(), EspFlashError> {
        let mut at = from;
        while at < to {
            let whole_block = at.is_multiple_of(BLOCK) && to - at >= BLOCK;
            let next = at + if whole_block { BLOCK } else { FlashStorage::SECTOR_SIZE };
            self.0.erase(at, next.min(to)).map_err(EspFlashError)?;
            yield_now().await;
            at = next;
        }
        Ok(())
    }

    async fn write(&mut self, mut offset: u32, bytes: &[u8]) -> Result<(), EspFlashError> {
        for part in bytes.chunks(STEP) {
            self.0.write_nor(offset, part).map_err(EspFlashError)?;
            yield_now().await;
            offset += part.len() as u32;
        }
        Ok(())
    }
}

impl MultiwriteNorFlash for EspFlash<'_> {}
