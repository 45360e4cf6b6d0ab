//! The two app slots and otadata, as one object.
//!
//! `otadata.rs` changes what boots, [`SlotWriter`] fills a slot, [`verify()`] checks one as the bootloader will.

mod otadata;
mod verify;
mod writer;

use core::fmt;

use embedded_storage_async::nor_flash::{NorFlash, NorFlashError, ReadNorFlash};
use otaru_format::otadata::SECTOR_LEN;
use otaru_format::partition::{PartitionError, PartitionTable, TABLE_LEN, TABLE_OFFSET};

use crate::guards;

pub use otadata::{FailedTrial, Trial, TrialCause};
pub use verify::{READ_BACK, VerifyError, verify};
pub use writer::SlotWriter;

/// Bytes at the end of the `otaru` partition for the firmware's settings.
const SETTINGS: u32 = 16 * 1024;
/// Smallest `otaru` partition that has room for settings.
const WITH_SETTINGS: u32 = 32 * 1024;
/// Smallest `otaru` partition that has room for a memory: two sectors, one to write while the other is erased.
const WITH_MEMORY: u32 = guards::LEN + 2 * SECTOR_LEN;

/// A part of the flash, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Region {
    /// Where it begins.
    pub offset: u32,
    /// How long it is.
    pub len: u32,
}

/// One of the places an app can stand in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot(u8);

impl Slot {
    /// The factory partition, which is never written.
    pub const FACTORY: Self = Self(u8::MAX);

    /// 0 for `ota_0`, 1 for `ota_1`, 255 for the factory partition.
    pub const fn index(self) -> u8 {
        self.0
    }
}

/// Why the slots cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SlotError<E> {
    /// The flash failed.
    Flash(E),
    /// The partition table cannot be used.
    Table(PartitionError),
    /// The table has no otadata, or not two OTA slots.
    Layout,
    /// This program runs from no OTA slot and not from the factory partition, so which slot is free cannot be told.
    Running(u32),
    /// The chip encrypts its flash: what is read and written past the cache is not what boots.
    Encrypted,
    /// The sector reads back different from what was written: it is worn out.
    ReadBack,
    /// The sequence numbers are used up.
    NoSequence,
    /// More bytes than the slot has.
    Full,
}

impl<E: fmt::Debug> fmt::Display for SlotError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flash(error) => write!(f, "flash: {error:?}"),
            Self::Table(error) => write!(f, "{error}"),
            Self::Layout => f.write_str("the partition table needs otadata (8 KiB) and two OTA slots"),
            Self::Running(address) => write!(
                f,
                "this program runs from 0x{address:x}, where the partition table has no OTA slot and no factory partition; flash the table and the program that belong together"
            ),
            Self::Encrypted => f.write_str(
                "this chip encrypts its flash, which updates over the air cannot do yet; use a chip without flash encryption",
            ),
            Self::ReadBack => f.write_str("a flash sector does not keep what is written to it"),
            Self::NoSequence => f.write_str("the otadata sequence numbers are used up; erase otadata"),
            Self::Full => f.write_str("the image does not fit the slot"),
        }
    }
}

impl<E> SlotError<E> {
    /// Whether a restart cannot help: what is wrong is the chip or its partition table.
    pub const fn is_lasting(&self) -> bool {
        matches!(self, Self::Table(_) | Self::Layout | Self::Running(_) | Self::Encrypted)
    }
}

impl<E: fmt::Debug> core::error::Error for SlotError<E> {}

impl<E: NorFlashError> From<E> for SlotError<E> {
    fn from(error: E) -> Self {
        Self::Flash(error)
    }
}

/// The slots of this device, and which of them this program runs from.
#[derive(Debug, Clone)]
pub struct Slots {
    otadata: u32,
    slots: [Region; 2],
    factory: Option<Region>,
    running: Slot,
    otaru: Option<Region>,
}

impl Slots {
    /// Reads the partition table. `running_address` is where this program's partition begins.
    ///
    /// # Errors
    /// When the table is missing, damaged, or has no two OTA slots, and when `running_address` is none of its apps: the slot
    /// taken for free could be the one that runs.
    pub async fn open<F: ReadNorFlash>(
        flash: &mut F,
        running_address: u32,
    ) -> Result<Self, SlotError<F::Error>> {
        let mut bytes = [0; TABLE_LEN];
        flash.read(TABLE_OFFSET, &mut bytes).await?;
        let table = PartitionTable::parse(&bytes).map_err(SlotError::Table)?;
        let region = |p: otaru_format::partition::Partition| Region { offset: p.offset, len: p.size };
        let (Some(otadata), Some(first), Some(second), 2) =
            (table.otadata(), table.slot(0), table.slot(1), table.slots())
        else {
            return Err(SlotError::Layout);
        };
        if otadata.size < 2 * SECTOR_LEN {
            return Err(SlotError::Layout);
        }
        let slots = [region(first), region(second)];
        let factory = table.factory().map(region);
        let running = match slots.iter().position(|slot| slot.offset == running_address) {
            Some(index) => Slot(u8::from(index == 1)),
            None if factory.is_some_and(|factory| factory.offset == running_address) => Slot::FACTORY,
            None => return Err(SlotError::Running(running_address)),
        };
        Ok(Self {
            otadata: otadata.offset,
            slots,
            factory,
            running,
            otaru: table.find_label("otaru").map(region),
        })
    }

    /// The slot this program runs from.
    pub const fn running(&self) -> Slot {
        self.running
    }

    /// The slot an update goes to: the one this program does not run from.
    pub const fn target(&self) -> Slot {
        Slot(if self.running.0 == 0 { 1 } else { 0 })
    }

    /// Where a slot is.
    pub fn region(&self, slot: Slot) -> Region {
        match self.slots.get(usize::from(slot.0)) {
            Some(region) => *region,
            None => self.factory.unwrap_or(self.slots[0]),
        }
    }

    /// The start of the `otaru` partition, for the guards: two sectors. They learn from the memory, so they are of no use without room
    /// for one.
    pub(crate) fn guards(&self) -> Option<Region> {
        self.otaru.filter(|part| part.len >= WITH_MEMORY).map(|part| Region { len: guards::LEN, ..part })
    }

    /// The middle of the `otaru` partition, for the agent's memory.
    pub(crate) fn memory(&self) -> Option<Region> {
        let part = self.otaru.filter(|part| part.len >= WITH_MEMORY)?;
        let settings = self.settings().map_or(0, |settings| settings.len);
        Some(Region { offset: part.offset + guards::LEN, len: part.len - guards::LEN - settings })
    }

    /// The end of the `otaru` partition, which the agent leaves to the firmware: its last 16 KiB, if it has 32 KiB or more. They
    /// are apart so that neither can fill or erase the other's.
    pub fn settings(&self) -> Option<Region> {
        let part = self.otaru.filter(|part| part.len >= WITH_SETTINGS)?;
        Some(Region { offset: part.offset + (part.len - SETTINGS), len: SETTINGS })
    }
}

/// Returns the length of a flash sector in bytes: the least that is erased.
pub(crate) fn sector<F: NorFlash>() -> u32 {
    F::ERASE_SIZE as u32
}
