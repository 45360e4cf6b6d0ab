//! A virtual NOR flash chip.
//!
//! Programming only clears bits; erasing sets whole sectors or 64 KiB blocks; both want aligned addresses, take
//! the time a W25Q takes, and wear. Power may be cut at any byte of any operation: what came before it is done,
//! the byte itself is torn, the rest is untouched. The contents are a plain dump, in memory or in a file.

use std::cell::RefCell;
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use embedded_storage_async::nor_flash::{
    ErrorType, MultiwriteNorFlash, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash,
};
use otaru_device::Clock;
use tokio::sync::watch;

use crate::clock::SimClock;

/// Bytes of the usual chip.
pub const FLASH_LEN: u32 = 4 << 20;
/// Bytes of the smallest erase.
pub const SECTOR: u32 = 4096;
/// Bytes of the large erase.
pub const BLOCK: u32 = 64 << 10;
/// Bytes of a page, the most that is programmed at once.
pub const PAGE: u32 = 256;

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

/// Counts of the operations so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Read calls.
    pub reads: u64,
    /// Pages programmed.
    pub pages: u64,
    /// 4 KiB erases.
    pub sector_erases: u64,
    /// 64 KiB erases.
    pub block_erases: u64,
}

/// One changing operation, as it was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operation {
    /// Whether it erases; otherwise it programs.
    pub erase: bool,
    /// Offset of its first byte.
    pub offset: u32,
    /// Number of bytes that it changes.
    pub len: u32,
}

/// One changing operation, and what it makes of the cells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The operation.
    pub operation: Operation,
    /// Contents of that part of the flash afterwards.
    pub after: Vec<u8>,
}

/// Leaves the byte at `at` as a power cut does that finds it between `before` and `wanted`.
pub fn torn(at: u32, before: u8, wanted: u8) -> u8 {
    // Of the bits that were to change, an arbitrary half did.
    let mask = (at.wrapping_mul(0x9E37_79B9) >> 24) as u8;
    (before & mask) | (wanted & !mask)
}

/// Cuts the power during a changing operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PowerCut {
    /// Number of the operation, counted from 0 since the cut was armed.
    pub operation: u64,
    /// Number of its bytes that are done.
    pub byte: u32,
}

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

#[derive(Debug)]
enum Cells {
    Memory(Vec<u8>),
    File { file: File, len: u32 },
    Shared { image: Rc<[u8]>, own: Vec<Option<Box<[u8]>>> },
}

impl Cells {
    fn len(&self) -> u32 {
        match self {
            Self::Memory(bytes) => bytes.len() as u32,
            Self::File { len, .. } => *len,
            Self::Shared { image, .. } => image.len() as u32,
        }
    }

    fn read(&self, at: u32, out: &mut [u8]) -> Result<(), FlashError> {
        match self {
            Self::Memory(bytes) => {
                out.copy_from_slice(&bytes[at as usize..at as usize + out.len()]);
                Ok(())
            }
            Self::File { file, .. } => file.read_exact_at(out, u64::from(at)).map_err(|_| FlashError::File),
            Self::Shared { image, own } => {
                for (sector, start, part) in by_sector(at, out.len()) {
                    let from = own[sector].as_deref().unwrap_or_else(|| &image[sector_range(sector)]);
                    let out = &mut out[part];
                    out.copy_from_slice(&from[start..start + out.len()]);
                }
                Ok(())
            }
        }
    }

    /// Whether these bytes stand there, told without a copy where they are in memory.
    fn holds(&self, at: u32, bytes: &[u8]) -> Result<bool, FlashError> {
        match self {
            Self::Memory(cells) => Ok(cells[at as usize..at as usize + bytes.len()] == *bytes),
            Self::File { .. } => {
                let mut there = vec![0; bytes.len()];
                self.read(at, &mut there)?;
                Ok(there == bytes)
            }
            Self::Shared { image, own } => Ok(by_sector(at, bytes.len()).all(|(sector, start, part)| {
                let cells = own[sector].as_deref().unwrap_or_else(|| &image[sector_range(sector)]);
                cells[start..start + part.len()] == bytes[part]
            })),
        }
    }

    fn write(&mut self, at: u32, data: &[u8]) -> Result<(), FlashError> {
        match self {
            Self::Memory(bytes) => {
                bytes[at as usize..at as usize + data.len()].copy_from_slice(data);
                Ok(())
            }
            Self::File { file, .. } => file.write_all_at(data, u64::from(at)).map_err(|_| FlashError::File),
            Self::Shared { image, own } => {
                for (sector, start, part) in by_sector(at, data.len()) {
                    let cells = own[sector].get_or_insert_with(|| image[sector_range(sector)].into());
                    let data = &data[part];
                    cells[start..start + data.len()].copy_from_slice(data);
                    // A sector that is as it was at first, most often blank again, needs no memory.
                    if start == 0 && data.len() == SECTOR as usize && *data == image[sector_range(sector)] {
                        own[sector] = None;
                    }
                }
                Ok(())
            }
        }
    }
}

fn sector_range(sector: usize) -> Range<usize> {
    let start = sector * SECTOR as usize;
    start..start + SECTOR as usize
}

/// Cuts `len` bytes from `at` on by sectors: the sector, where in it they begin, and which of the bytes they are.
fn by_sector(at: u32, len: usize) -> impl Iterator<Item = (usize, usize, Range<usize>)> {
    let (at, size) = (at as usize, SECTOR as usize);
    let mut done = 0;
    std::iter::from_fn(move || {
        let (sector, start) = ((at + done) / size, (at + done) % size);
        let part = done..len.min(done + size - start);
        done = part.end;
        (!part.is_empty()).then_some((sector, start, part))
    })
}

/// Record of which initial contents of the chip were looked at since.
#[derive(Debug)]
struct InitialReads {
    erased: Vec<bool>,
    read: Vec<bool>,
}

impl InitialReads {
    fn of(len: u32) -> Self {
        Self { erased: vec![false; (len / SECTOR) as usize], read: vec![false; (len / PAGE) as usize] }
    }

    fn note_read(&mut self, at: u32, len: u32) {
        for page in at / PAGE..(at + len).div_ceil(PAGE) {
            self.read[page as usize] |= !self.erased[(page * PAGE / SECTOR) as usize];
        }
    }

    fn note(&mut self, operation: Operation) {
        let Operation { erase, offset, len } = operation;
        if erase {
            self.erased[(offset / SECTOR) as usize..((offset + len) / SECTOR) as usize].fill(true);
        } else {
            // What programming leaves depends on what was there.
            self.note_read(offset, len);
        }
    }
}

#[derive(Debug)]
struct Chip {
    cells: Cells,
    timing: Timing,
    clock: SimClock,
    /// Until when the chip is busy. Keeps the parts of a millisecond that timers cannot.
    busy_until: Duration,
    counts: Counts,
    wear: Vec<u32>,
    log: Vec<Operation>,
    changes: Option<Vec<Change>>,
    traces: Option<InitialReads>,
    cut: Option<PowerCut>,
    unreadable: Range<u32>,
    done: u64,
    power: watch::Sender<bool>,
}

/// A handle to a flash chip; clones share the chip.
#[derive(Debug, Clone)]
pub struct Flash(Rc<RefCell<Chip>>);

impl Flash {
    fn over(cells: Cells, timing: Timing, clock: SimClock) -> Self {
        let sectors = (cells.len() / SECTOR) as usize;
        Self(Rc::new(RefCell::new(Chip {
            cells,
            timing,
            clock,
            busy_until: Duration::ZERO,
            counts: Counts::default(),
            wear: vec![0; sectors],
            log: Vec::new(),
            changes: None,
            traces: None,
            cut: None,
            unreadable: 0..0,
            done: 0,
            power: watch::Sender::new(true),
        })))
    }

    /// A chip with these contents, in memory.
    pub fn from_bytes(bytes: Vec<u8>, timing: Timing, clock: SimClock) -> Self {
        Self::over(Cells::Memory(bytes), timing, clock)
    }

    /// A chip in memory that begins with contents it shares with others, and keeps only what differs: for thousands
    /// of devices.
    ///
    /// # Panics
    /// Panics if the length of the contents is not a multiple of 4 KiB.
    pub fn sharing(contents: Rc<[u8]>, timing: Timing, clock: SimClock) -> Self {
        assert!(contents.len().is_multiple_of(SECTOR as usize), "flash has whole sectors");
        let own = vec![None; contents.len() / SECTOR as usize];
        Self::over(Cells::Shared { image: contents, own }, timing, clock)
    }

    /// A chip in a dump file; made blank if it does not exist.
    ///
    /// # Errors
    /// Returns an error if the file cannot be opened, or if its length is above 16 MiB or not a multiple of 64 KiB.
    pub fn open(path: &Path, timing: Timing, clock: SimClock) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let mut len = file.metadata()?.len();
        if len == 0 {
            let blank = vec![0xFF; FLASH_LEN as usize];
            file.write_all_at(&blank, 0)?;
            len = u64::from(FLASH_LEN);
        }
        if len % u64::from(BLOCK) != 0 || len > 16 << 20 {
            let text = format!("{} is no flash dump: {len} bytes", path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        Ok(Self::over(Cells::File { file, len: len as u32 }, timing, clock))
    }

    /// The whole contents.
    ///
    /// # Errors
    /// Returns [`FlashError::File`] if the dump file cannot be read.
    pub fn contents(&self) -> Result<Vec<u8>, FlashError> {
        let chip = self.0.borrow();
        let mut bytes = vec![0; chip.cells.len() as usize];
        chip.cells.read(0, &mut bytes)?;
        Ok(bytes)
    }

    /// Puts bytes where a flashing tool would, without wear and time.
    ///
    /// # Errors
    /// Returns [`FlashError::OutOfBounds`] if they reach beyond the end of the chip, and [`FlashError::File`] if the dump file
    /// cannot be written.
    pub fn provision(&self, at: u32, bytes: &[u8]) -> Result<(), FlashError> {
        let mut chip = self.0.borrow_mut();
        if u64::from(at) + bytes.len() as u64 > u64::from(chip.cells.len()) {
            return Err(FlashError::OutOfBounds);
        }
        chip.cells.write(at, bytes)
    }

    /// Returns the counts of the operations so far.
    pub fn counts(&self) -> Counts {
        self.0.borrow().counts
    }

    /// Returns the number of erases of each sector.
    pub fn wear(&self) -> Vec<u32> {
        self.0.borrow().wear.clone()
    }

    /// The changing operations so far.
    pub fn operations(&self) -> Vec<Operation> {
        self.0.borrow().log.clone()
    }

    /// From now on keeps what each changing operation makes of the cells, for [`Flash::changes`].
    pub fn record(&self) {
        self.0.borrow_mut().changes = Some(Vec::new());
    }

    /// The changes since [`Flash::record`].
    pub fn changes(&self) -> Vec<Change> {
        self.0.borrow().changes.clone().unwrap_or_default()
    }

    /// From now on notes which of the present contents are looked at, for [`Flash::pages_read`].
    pub fn trace(&self) {
        let mut chip = self.0.borrow_mut();
        chip.traces = Some(InitialReads::of(chip.cells.len()));
    }

    /// Numbers of the pages whose contents at the time of [`Flash::trace`] made a difference since: they were read, or
    /// programmed, before they were erased. Whatever stood in the others, all would have gone the same way.
    pub fn pages_read(&self) -> Vec<u32> {
        let chip = self.0.borrow();
        let read = chip.traces.iter().flat_map(|traces| &traces.read);
        (0..).zip(read).filter_map(|(page, read)| read.then_some(page)).collect()
    }

    /// Whether these bytes stand there, which counts as a read.
    ///
    /// # Errors
    /// Returns [`FlashError::OutOfBounds`] if the range reaches beyond the end of the chip, and [`FlashError::File`] if the dump
    /// file cannot be read.
    pub fn holds(&self, at: u32, bytes: &[u8]) -> Result<bool, FlashError> {
        let mut chip = self.0.borrow_mut();
        if u64::from(at) + bytes.len() as u64 > u64::from(chip.cells.len()) {
            return Err(FlashError::OutOfBounds);
        }
        if let Some(traces) = &mut chip.traces {
            traces.note_read(at, bytes.len() as u32);
        }
        chip.cells.holds(at, bytes)
    }

    /// Arms a power cut.
    pub fn cut_at(&self, cut: PowerCut) {
        let mut chip = self.0.borrow_mut();
        chip.cut = Some(cut);
        chip.done = 0;
    }

    /// From now on reads that touch this part fail; an empty one lets all succeed again.
    pub fn fail_reads(&self, part: Range<u32>) {
        self.0.borrow_mut().unreadable = part;
    }

    /// Cuts the power now, between operations.
    pub fn cut_power(&self) {
        self.0.borrow().power.send_replace(false);
    }

    /// Gives power again; an armed cut that did not happen is forgotten.
    pub fn restore_power(&self) {
        let mut chip = self.0.borrow_mut();
        chip.cut = None;
        chip.busy_until = Duration::ZERO;
        chip.power.send_replace(true);
    }

    /// Whether there is no power.
    pub fn power_lost(&self) -> bool {
        !*self.0.borrow().power.borrow()
    }

    /// Resolves when power is lost.
    pub fn wait_power_lost(&self) -> impl Future<Output = ()> + use<> {
        let mut power = self.0.borrow().power.subscribe();
        async move {
            if power.wait_for(|on| !on).await.is_err() {
                std::future::pending().await
            }
        }
    }

    /// Returns the result of an operation. Without power nothing runs on that could learn of it, so that is never
    /// an answer; [`Flash::wait_power_lost`] tells those outside.
    async fn answer<T>(&self, result: Result<T, FlashError>) -> Result<T, FlashError> {
        match result {
            Err(FlashError::PowerLost) => std::future::pending().await,
            other => other,
        }
    }

    /// Waits as long as the chip is busy with an operation of this cost.
    async fn take(&self, cost: Duration) {
        let (clock, until) = {
            let mut chip = self.0.borrow_mut();
            let now = chip.clock.now();
            chip.busy_until = chip.busy_until.max(now.saturating_sub(Duration::from_millis(2))) + cost;
            (chip.clock.clone(), chip.busy_until)
        };
        let wait = until.saturating_sub(clock.now());
        if wait >= Duration::from_millis(1) {
            clock.sleep(wait).await;
        }
    }
}

impl Chip {
    fn check(&self, from: u32, len: u32, unit: u32) -> Result<(), FlashError> {
        if !*self.power.borrow() {
            return Err(FlashError::PowerLost);
        }
        if !from.is_multiple_of(unit) || !len.is_multiple_of(unit) {
            return Err(FlashError::NotAligned);
        }
        match from.checked_add(len) {
            Some(end) if end <= self.cells.len() => Ok(()),
            _ => Err(FlashError::OutOfBounds),
        }
    }

    /// Reads; gives back how long it takes.
    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<Duration, FlashError> {
        self.check(offset, bytes.len() as u32, 1)?;
        self.counts.reads += 1;
        if offset < self.unreadable.end && self.unreadable.start < offset + bytes.len() as u32 {
            return Err(FlashError::Unreadable);
        }
        if let Some(traces) = &mut self.traces {
            traces.note_read(offset, bytes.len() as u32);
        }
        self.cells.read(offset, bytes)?;
        Ok(self.timing.read_kib * bytes.len() as u32 / 1024)
    }

    /// Erases a sector or a block; gives back how long it takes.
    fn erase(&mut self, offset: u32, len: u32) -> Result<Duration, FlashError> {
        self.check(offset, len, SECTOR)?;
        let block = len == BLOCK;
        let count = if block { &mut self.counts.block_erases } else { &mut self.counts.sector_erases };
        *count += 1;
        for sector in offset / SECTOR..(offset + len) / SECTOR {
            self.wear[sector as usize] += 1;
        }
        self.change(Operation { erase: true, offset, len }, &vec![0xFF; len as usize])?;
        Ok(if block { self.timing.block_erase } else { self.timing.sector_erase })
    }

    /// Programs within a page; gives back how long it takes.
    fn program(&mut self, offset: u32, page: &[u8]) -> Result<Duration, FlashError> {
        let len = page.len() as u32;
        self.check(offset, len, 4)?;
        let mut after = vec![0; page.len()];
        self.cells.read(offset, &mut after)?;
        after.iter_mut().zip(page).for_each(|(cell, byte)| *cell &= byte);
        self.counts.pages += 1;
        self.change(Operation { erase: false, offset, len }, &after)?;
        Ok(self.timing.page_program)
    }

    /// Changes cells to `after`, or some of them if power is cut in the middle.
    fn change(&mut self, operation: Operation, after: &[u8]) -> Result<(), FlashError> {
        self.log.push(operation);
        if let Some(changes) = &mut self.changes {
            changes.push(Change { operation, after: after.to_vec() });
        }
        if let Some(traces) = &mut self.traces {
            traces.note(operation);
        }
        let number = self.done;
        self.done += 1;
        match self.cut.filter(|cut| cut.operation == number && cut.byte <= operation.len) {
            None => self.cells.write(operation.offset, after),
            Some(cut) => {
                let whole = cut.byte.min(operation.len) as usize;
                self.cells.write(operation.offset, &after[..whole])?;
                if let Some(wanted) = after.get(whole) {
                    let at = operation.offset + cut.byte;
                    let mut before = [0];
                    self.cells.read(at, &mut before)?;
                    self.cells.write(at, &[torn(at, before[0], *wanted)])?;
                }
                self.power.send_replace(false);
                Err(FlashError::PowerLost)
            }
        }
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    fn blank() -> Flash {
        Flash::from_bytes(vec![0xFF; FLASH_LEN as usize], Timing::INSTANT, SimClock::new(1.0))
    }

    #[tokio::test]
    async fn programming_only_clears_bits() {
        let mut flash = blank();
        flash.write(0, &[0xF0; 4]).await.unwrap();
        flash.write(0, &[0x3C; 4]).await.unwrap();
        let mut bytes = [0; 4];
        flash.read(0, &mut bytes).await.unwrap();
        assert_eq!(bytes, [0x30; 4]);
        assert_eq!(flash.write(2, &[0; 4]).await, Err(FlashError::NotAligned));
        assert_eq!(flash.erase(0, 100).await, Err(FlashError::NotAligned));
        assert_eq!(flash.write(FLASH_LEN, &[0; 4]).await, Err(FlashError::OutOfBounds));
    }

    #[tokio::test]
    async fn a_chip_that_shares_behaves_like_one_of_its_own() {
        use rand::{Rng as _, SeedableRng as _};
        let mut rng = rand::rngs::SmallRng::seed_from_u64(7);
        let mut contents = vec![0xFF; 4 * BLOCK as usize];
        rng.fill(&mut contents[..BLOCK as usize]);
        let clock = SimClock::new(1.0);
        let shared: Rc<[u8]> = contents.clone().into();
        let mut light = Flash::sharing(Rc::clone(&shared), Timing::INSTANT, clock.clone());
        let mut plain = Flash::from_bytes(contents, Timing::INSTANT, clock);
        for _ in 0..2_000 {
            let at = rng.random_range(0..4 * BLOCK - 3 * SECTOR) & !3;
            if rng.random_bool(0.3) {
                let from = at / SECTOR * SECTOR;
                let to = from + SECTOR * rng.random_range(1..=3);
                light.erase(from, to).await.unwrap();
                plain.erase(from, to).await.unwrap();
            } else {
                let bytes = vec![rng.random::<u8>(); 4 * rng.random_range(1..=2_048)];
                light.write(at, &bytes).await.unwrap();
                plain.write(at, &bytes).await.unwrap();
            }
        }
        assert_eq!(light.contents(), plain.contents());
        assert_ne!(light.contents().unwrap(), *shared, "something was changed");
        let fresh = Flash::sharing(Rc::clone(&shared), Timing::INSTANT, SimClock::new(1.0));
        assert_eq!(fresh.contents().unwrap(), *shared, "what others share is not");
    }

    #[tokio::test]
    async fn aligned_blocks_are_erased_as_blocks() {
        let mut flash = blank();
        flash.erase(BLOCK - SECTOR, 2 * BLOCK + SECTOR).await.unwrap();
        let counts = flash.counts();
        assert_eq!((counts.sector_erases, counts.block_erases), (2, 1));
    }

    #[tokio::test]
    async fn a_page_counts_as_read_unless_it_was_erased_before() {
        let mut flash = blank();
        flash.trace();
        let mut bytes = [0; 8];
        flash.read(PAGE - 4, &mut bytes).await.unwrap();
        flash.erase(SECTOR, 2 * SECTOR).await.unwrap();
        flash.read(SECTOR, &mut bytes).await.unwrap();
        flash.write(SECTOR + PAGE, &bytes).await.unwrap();
        flash.write(2 * SECTOR, &bytes).await.unwrap();
        assert!(flash.holds(3 * SECTOR, &[0xFF; 4]).unwrap());
        assert!(!flash.holds(3 * SECTOR, &[0; 4]).unwrap());
        assert_eq!(flash.pages_read(), [0, 1, 32, 48]);
    }

    #[tokio::test]
    async fn a_cut_leaves_the_rest_untouched() {
        let mut flash = blank();
        flash.cut_at(PowerCut { operation: 1, byte: 5 });
        flash.write(0, &[0; 8]).await.unwrap();
        let lost = flash.wait_power_lost();
        tokio::select! {
            result = flash.write(256, &[0; 16]) => panic!("a chip without power answers {result:?}"),
            () = lost => {}
        }
        let contents = flash.contents().unwrap();
        assert_eq!(contents[256..261], [0; 5]);
        assert_eq!(contents[262..272], [0xFF; 10]);
    }
}
