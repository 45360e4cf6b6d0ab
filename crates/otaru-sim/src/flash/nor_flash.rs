//! The chip as the agent sees it: the ecosystem's traits of NOR flash.

use embedded_storage_async::nor_flash::{ErrorType, MultiwriteNorFlash, NorFlash, ReadNorFlash};

use super::Flash;
use super::error::FlashError;
use super::units::{BLOCK, PAGE, SECTOR};

impl ErrorType for Flash {
    type Error = FlashError;
}

impl ReadNorFlash for Flash {
    const READ_SIZE: usize = 1;

    async fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), FlashError> {
        let result = self.0.borrow_mut().read(offset, bytes);
        let cost = self.answer(result).await?;
        self.take(cost).await;
        Ok(())
    }

    fn capacity(&self) -> usize {
        self.0.borrow().cells.len() as usize
    }
}

impl NorFlash for Flash {
    const WRITE_SIZE: usize = 4;
    const ERASE_SIZE: usize = SECTOR as usize;

    async fn erase(&mut self, from: u32, to: u32) -> Result<(), FlashError> {
        let checked = self.0.borrow().check(from, to.saturating_sub(from), SECTOR);
        self.answer(checked).await?;
        let mut at = from;
        while at < to {
            let len = if at.is_multiple_of(BLOCK) && to - at >= BLOCK { BLOCK } else { SECTOR };
            let result = self.0.borrow_mut().erase(at, len);
            let cost = self.answer(result).await?;
            self.take(cost).await;
            at += len;
        }
        Ok(())
    }

    async fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), FlashError> {
        let checked = self.0.borrow().check(offset, bytes.len() as u32, 4);
        self.answer(checked).await?;
        let mut at = offset;
        let mut rest = bytes;
        while !rest.is_empty() {
            let room = (PAGE - at % PAGE) as usize;
            let (page, later) = rest.split_at(room.min(rest.len()));
            let result = self.0.borrow_mut().program(at, page);
            let cost = self.answer(result).await?;
            self.take(cost).await;
            at += page.len() as u32;
            rest = later;
        }
        Ok(())
    }
}

impl MultiwriteNorFlash for Flash {}
