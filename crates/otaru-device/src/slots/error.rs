//! Why the slots cannot be used, and whether a restart may help.

use core::fmt;

use embedded_storage_async::nor_flash::NorFlashError;
use otaru_format::partition::PartitionError;

/// Why the slots cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
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
