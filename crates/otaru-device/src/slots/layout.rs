//! Layout of this device's slots, and the slot that this program runs from: what the partition table says.

use core::fmt;

use embedded_storage_async::nor_flash::ReadNorFlash;
use otaru_format::otadata::{Record, SECTOR_LEN};
use otaru_format::partition::{Partition, PartitionTable, SlotName, TABLE_LEN, TABLE_OFFSET};

use super::error::SlotError;
use super::region::Region;
use crate::guards;

/// Bytes at the end of the `otaru` partition for the firmware's settings.
const SETTINGS: u32 = 16 * 1024;
/// Smallest `otaru` partition that has room for settings.
const WITH_SETTINGS: u32 = 32 * 1024;
/// Smallest `otaru` partition that has room for a memory: two sectors, one to write while the other is erased.
const WITH_MEMORY: u32 = guards::LEN + 2 * SECTOR_LEN;

/// One of the places an app can stand in. Partition tables with more than two OTA slots are not supported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[repr(u8)]
pub enum Slot {
    /// `ota_0`.
    Ota0 = 0,
    /// `ota_1`.
    Ota1 = 1,
    /// The factory partition, which is never written.
    Factory = u8::MAX,
}

impl Slot {
    /// Returns its number in reports: 0 for `ota_0`, 1 for `ota_1`, 255 for the factory partition.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// Returns the slot that a record of otadata names.
    pub(super) fn of_record(record: &Record) -> Self {
        if record.slot(SLOTS) == 0 { Self::Ota0 } else { Self::Ota1 }
    }
}

/// Writes its name in the partition table.
impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        SlotName(self.number()).fmt(f)
    }
}

/// OTA slots of a partition table.
pub(super) const SLOTS: u8 = 2;

/// The slots of this device, and which of them this program runs from.
#[derive(Debug, Clone)]
pub struct Slots {
    pub(super) otadata: u32,
    slots: [Region; 2],
    pub(super) factory: Option<Region>,
    pub(super) running: Slot,
    otaru: Option<Region>,
}

impl Slots {
    /// Reads the partition table. `running_address` is where this program's partition begins.
    ///
    /// # Errors
    /// Returns an error if the table cannot be read, is damaged or does not have two OTA slots, and if no app partition begins at
    /// `running_address`: the slot taken for free could then be the running one.
    pub async fn open<F: ReadNorFlash>(
        flash: &mut F,
        running_address: u32,
    ) -> Result<Self, SlotError<F::Error>> {
        let mut bytes = [0; TABLE_LEN];
        flash.read(TABLE_OFFSET, &mut bytes).await?;
        let table = PartitionTable::parse(&bytes).map_err(SlotError::Table)?;
        let region = |p: Partition| Region { offset: p.offset, len: p.size };
        let (Some(otadata), Some(first), Some(second), SLOTS) =
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
            Some(0) => Slot::Ota0,
            Some(_) => Slot::Ota1,
            None if factory.is_some_and(|factory| factory.offset == running_address) => Slot::Factory,
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
        if matches!(self.running, Slot::Ota0) { Slot::Ota1 } else { Slot::Ota0 }
    }

    /// Returns the region of a slot.
    pub fn region(&self, slot: Slot) -> Region {
        match slot {
            Slot::Ota0 => self.slots[0],
            Slot::Ota1 => self.slots[1],
            Slot::Factory => self.factory.unwrap_or(self.slots[0]),
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
