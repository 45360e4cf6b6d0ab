//! A virtual NOR flash chip.
//!
//! Programming only clears bits; erasing sets whole sectors or 64 KiB blocks; both want aligned addresses, take
//! the time a W25Q takes, and wear. Power may be cut at any byte of any operation: what came before it is done,
//! the byte itself is torn, the rest is untouched. The contents are a plain dump, in memory or in a file.
//!
//! Here is the handle that a board and a test hold; [`chip`] is the chip behind it, [`cells`] its contents, [`nor_flash`] the traits
//! through which the agent uses it.

mod cells;
mod chip;
mod cut;
mod error;
mod nor_flash;
mod record;
#[cfg(test)]
mod tests;
mod timing;
mod units;

use std::cell::RefCell;
use std::fs::OpenOptions;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use otaru_device::Clock as _;

use self::cells::Cells;
use self::chip::Chip;
pub use self::cut::{PowerCut, torn};
pub use self::error::FlashError;
use self::record::InitialReads;
pub use self::record::{Change, Counts, Operation};
pub use self::timing::Timing;
pub use self::units::{BLOCK, FLASH_LEN, PAGE, SECTOR};
use crate::clock::SimClock;

/// A handle to a flash chip; clones share the chip.
#[derive(Debug, Clone)]
pub struct Flash(Rc<RefCell<Chip>>);

impl Flash {
    fn over(cells: Cells, timing: Timing, clock: SimClock) -> Self {
        Self(Rc::new(RefCell::new(Chip::over(cells, timing, clock))))
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
