//! Filling a slot: erase ahead of the write head in large blocks, program whole pages.
//!
//! A 64 KiB block erase takes 150 ms where sixteen sector erases take 720 ms (W25Q128JV datasheet, table 9.6),
//! and is done while the network is waited for. Flash that is already blank is left alone.

use embedded_storage_async::nor_flash::NorFlash;

use super::error::SlotError;
use super::region::Region;

/// Bytes of the large erase block of common NOR flash (command D8h).
const BLOCK: u32 = 64 * 1024;
/// Sectors of a block that make one block erase quicker than single ones: 150 ms against 45 ms each.
const WORTH_A_BLOCK: u32 = 4;
/// Bytes read at once to see whether flash is blank.
const PEEK: usize = 256;

/// Writes one image from the start of a slot.
#[derive(Debug)]
pub struct SlotWriter {
    region: Region,
    /// Bytes written.
    head: u32,
    /// Bytes erased.
    frontier: u32,
    /// Bytes the image will have, if known.
    total: Option<u32>,
}

impl SlotWriter {
    /// Begins at the start of `region`, which must not be the one the program runs from.
    pub const fn new(region: Region) -> Self {
        Self { region, head: 0, frontier: 0, total: None }
    }

    /// Tells how long the image will be, so that no more is erased than needed.
    pub fn expect(&mut self, total: u32) {
        self.total = Some(total);
    }

    /// The next bytes belong at `place`, in bytes from the slot's start; from there on all is erased again. A
    /// whole number of sectors.
    pub fn seek(&mut self, place: u32) {
        self.head = place;
        self.frontier = place;
    }

    /// Erases the next block, unless enough is erased already; says whether it did something.
    ///
    /// # Errors
    /// Returns [`SlotError::Flash`] if the flash cannot be read or erased.
    pub async fn erase_ahead<F: NorFlash>(&mut self, flash: &mut F) -> Result<bool, SlotError<F::Error>> {
        if self.frontier >= self.limit::<F>() || self.frontier >= self.head + BLOCK {
            return Ok(false);
        }
        self.erase_next(flash).await?;
        Ok(true)
    }

    /// Returns the end of what may be erased, in bytes from the slot's start.
    fn limit<F: NorFlash>(&self) -> u32 {
        let wanted = self.total.unwrap_or(self.region.len).min(self.region.len);
        wanted.next_multiple_of(sector::<F>()).min(self.region.len)
    }

    async fn erase_next<F: NorFlash>(&mut self, flash: &mut F) -> Result<(), SlotError<F::Error>> {
        let from = self.region.offset + self.frontier;
        let sector = sector::<F>();
        let left = self.region.len - self.frontier;
        let needed = self.limit::<F>().saturating_sub(self.frontier);
        let whole_block = from.is_multiple_of(BLOCK) && left >= BLOCK;
        let len = if whole_block && needed >= WORTH_A_BLOCK * sector { BLOCK } else { sector };
        if !is_blank(flash, from, len).await? {
            flash.erase(from, from + len).await?;
        }
        self.frontier += len;
        Ok(())
    }

    /// Writes the next bytes. All pieces but the last are whole pages.
    ///
    /// # Errors
    /// [`SlotError::Full`] at the slot's end, or when the flash fails.
    pub async fn write<F: NorFlash>(
        &mut self,
        flash: &mut F,
        data: &[u8],
    ) -> Result<(), SlotError<F::Error>> {
        let end = self.head.checked_add(data.len() as u32).filter(|end| *end <= self.region.len);
        let end = end.ok_or(SlotError::Full)?;
        while self.frontier < end {
            self.erase_next(flash).await?;
        }
        let at = self.region.offset + self.head;
        let whole = data.len() / F::WRITE_SIZE * F::WRITE_SIZE;
        let (words, rest) = data.split_at(whole);
        if !words.is_empty() {
            flash.write(at, words).await?;
        }
        if !rest.is_empty() {
            // The tail is filled up with ones, which change nothing.
            let mut word = [0xFF; 32];
            word[..rest.len()].copy_from_slice(rest);
            flash.write(at + whole as u32, word.get(..F::WRITE_SIZE).ok_or(SlotError::Full)?).await?;
        }
        self.head = end;
        Ok(())
    }
}

async fn is_blank<F: NorFlash>(flash: &mut F, from: u32, len: u32) -> Result<bool, SlotError<F::Error>> {
    let mut buf = [0; PEEK];
    let mut at = from;
    while at < from + len {
        flash.read(at, &mut buf).await?;
        if buf.iter().any(|byte| *byte != 0xFF) {
            return Ok(false);
        }
        at += PEEK as u32;
    }
    Ok(true)
}

/// Returns the length of a flash sector in bytes: the least that is erased.
fn sector<F: NorFlash>() -> u32 {
    F::ERASE_SIZE as u32
}
