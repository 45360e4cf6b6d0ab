//! The partition table.
//!
//! Rows of 32 bytes: magic `AA 50`, type, subtype, offset `u32`, size `u32`, label of 16 bytes, flags `u32`; then
//! a row `EB EB`, fourteen `FF` and the MD5 of the rows before it; then `FF` (ESP-IDF `esp_flash_partitions.h`,
//! `gen_esp32part.py`).

use core::fmt;

use heapless::String;
use md5::{Digest as _, Md5};

/// Flash offset of the table, in bytes.
pub const TABLE_OFFSET: u32 = 0x8000;
/// Bytes of the table.
pub const TABLE_LEN: usize = 0xC00;
const ROW: usize = 32;
/// First bytes of every entry, and so of a partition table (`ESP_PARTITION_MAGIC`).
pub const MAGIC: [u8; 2] = [0xAA, 0x50];
const MD5_MAGIC: [u8; 2] = [0xEB, 0xEB];

/// Type of application partitions.
const APP: u8 = 0;
/// Type of data partitions.
const DATA: u8 = 1;
/// Subtype of the first OTA slot; the others follow.
const OTA_0: u8 = 0x10;
/// OTA slots that a table can have.
const MAX_OTA: u8 = 16;

/// Type and subtype of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum PartitionType {
    /// The factory app.
    Factory,
    /// An OTA slot by its number, 0 to 15; higher ones are written modulo 16.
    Ota(u8),
    /// otadata.
    OtaData,
    /// PHY calibration data.
    Phy,
    /// NVS.
    Nvs,
    /// Data that ESP-IDF has no use for (`undefined`), such as the agent's own state, which is found by its label. All other
    /// numbers are reserved, and esp-idf-part, hence espflash, panics at those it does not know.
    Undefined,
    /// Any other.
    Other {
        /// Type: 0 for apps, 1 for data, 0x40 and above for what users like.
        kind: u8,
        /// Subtype within its type.
        subtype: u8,
    },
}

impl PartitionType {
    /// Returns the one with these numbers of type and subtype.
    pub const fn from_numbers(kind: u8, subtype: u8) -> Self {
        match (kind, subtype) {
            (APP, 0) => Self::Factory,
            (APP, OTA_0..=0x1F) => Self::Ota(subtype - OTA_0),
            (DATA, 0) => Self::OtaData,
            (DATA, 1) => Self::Phy,
            (DATA, 2) => Self::Nvs,
            (DATA, 6) => Self::Undefined,
            _ => Self::Other { kind, subtype },
        }
    }

    /// Returns the numbers of type and subtype.
    pub const fn numbers(self) -> (u8, u8) {
        match self {
            Self::Factory => (APP, 0),
            Self::Ota(number) => (APP, OTA_0 + number % MAX_OTA),
            Self::OtaData => (DATA, 0),
            Self::Phy => (DATA, 1),
            Self::Nvs => (DATA, 2),
            Self::Undefined => (DATA, 6),
            Self::Other { kind, subtype } => (kind, subtype),
        }
    }
}

/// One partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// Numbers of type and subtype. Their meaning is looked up where it is asked for: a chip only compares them.
    numbers: (u8, u8),
    /// Flash offset in bytes.
    pub offset: u32,
    /// Size in bytes.
    pub size: u32,
    /// Name.
    pub label: String<16>,
    /// Bit 0: encrypted. Bit 1: read-only.
    pub flags: u32,
}

impl Partition {
    /// A partition without flags. A label of more than 16 bytes is dropped.
    pub fn new(label: &str, kind: PartitionType, offset: u32, size: u32) -> Self {
        let label = String::try_from(label).unwrap_or_default();
        Self { numbers: kind.numbers(), offset, size, label, flags: 0 }
    }

    /// Returns type and subtype.
    pub const fn kind(&self) -> PartitionType {
        PartitionType::from_numbers(self.numbers.0, self.numbers.1)
    }

    fn parse(row: &[u8; ROW]) -> Self {
        let word = |at: usize| u32::from_le_bytes([row[at], row[at + 1], row[at + 2], row[at + 3]]);
        let name = &row[12..28];
        let name = &name[..name.iter().position(|b| *b == 0).unwrap_or(16)];
        let label = String::try_from(core::str::from_utf8(name).unwrap_or("?")).unwrap_or_default();
        Self { numbers: (row[2], row[3]), offset: word(4), size: word(8), label, flags: word(28) }
    }

    fn emit(&self) -> [u8; ROW] {
        let mut row = [0; ROW];
        row[..2].copy_from_slice(&MAGIC);
        (row[2], row[3]) = self.numbers;
        row[4..8].copy_from_slice(&self.offset.to_le_bytes());
        row[8..12].copy_from_slice(&self.size.to_le_bytes());
        row[12..12 + self.label.len()].copy_from_slice(self.label.as_bytes());
        row[28..].copy_from_slice(&self.flags.to_le_bytes());
        row
    }
}

/// Why a table cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum PartitionError {
    /// No table here.
    Missing,
    /// A row is neither a partition, nor the MD5, nor the end.
    BadRow(usize),
    /// The MD5 does not fit.
    BadMd5,
    /// More rows than fit.
    TooMany,
}

impl fmt::Display for PartitionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("no partition table at 0x8000; flash one first"),
            Self::BadRow(row) => write!(f, "row {row} of the partition table is damaged"),
            Self::BadMd5 => f.write_str("the partition table's MD5 does not fit"),
            Self::TooMany => f.write_str("a partition table has 95 rows at most"),
        }
    }
}

impl core::error::Error for PartitionError {}

/// A checked table over its bytes.
#[derive(Debug, Clone, Copy)]
pub struct PartitionTable<'a> {
    rows: &'a [[u8; ROW]],
}

impl<'a> PartitionTable<'a> {
    /// Reads and checks a table.
    ///
    /// # Errors
    /// A [`PartitionError`] when there is none or it is damaged.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, PartitionError> {
        let (rows, _) = bytes[..bytes.len().min(TABLE_LEN)].as_chunks::<ROW>();
        for (index, row) in rows.iter().enumerate() {
            if row[..2] == MAGIC {
                continue;
            }
            if row[..2] == MD5_MAGIC {
                let sum = Md5::digest(rows[..index].as_flattened());
                if sum[..] != row[16..] {
                    return Err(PartitionError::BadMd5);
                }
            } else if row.iter().any(|b| *b != 0xFF) {
                return Err(PartitionError::BadRow(index));
            }
            return if index == 0 { Err(PartitionError::Missing) } else { Ok(Self { rows: &rows[..index] }) };
        }
        if rows.is_empty() { Err(PartitionError::Missing) } else { Ok(Self { rows }) }
    }

    /// The partitions in order.
    pub fn iter(&self) -> impl Iterator<Item = Partition> + use<'a> {
        self.rows.iter().map(Partition::parse)
    }

    /// The partition of this name.
    pub fn find_label(&self, label: &str) -> Option<Partition> {
        self.iter().find(|p| p.label == label)
    }

    fn find(&self, kind: PartitionType) -> Option<Partition> {
        self.iter().find(|p| p.numbers == kind.numbers())
    }

    /// otadata.
    pub fn otadata(&self) -> Option<Partition> {
        self.find(PartitionType::OtaData)
    }

    /// The factory app.
    pub fn factory(&self) -> Option<Partition> {
        self.find(PartitionType::Factory)
    }

    /// OTA slot number `index`.
    pub fn slot(&self, index: u8) -> Option<Partition> {
        if index < MAX_OTA { self.find(PartitionType::Ota(index)) } else { None }
    }

    /// Number of OTA slots.
    pub fn slots(&self) -> u8 {
        let count = self.iter().filter(|p| p.numbers.0 == APP && p.numbers.1 & 0xF0 == OTA_0).count();
        u8::try_from(count).unwrap_or(MAX_OTA)
    }
}

/// Writes a table.
///
/// # Errors
/// [`PartitionError::TooMany`] when there is no room for the rows and their MD5.
pub fn emit(partitions: &[Partition], out: &mut [u8; TABLE_LEN]) -> Result<(), PartitionError> {
    out.fill(0xFF);
    let end = partitions.len() * ROW;
    if end + 2 * ROW > TABLE_LEN {
        return Err(PartitionError::TooMany);
    }
    for (row, partition) in out.chunks_exact_mut(ROW).zip(partitions) {
        row.copy_from_slice(&partition.emit());
    }
    let sum = Md5::digest(&out[..end]);
    out[end..end + 2].copy_from_slice(&MD5_MAGIC);
    out[end + 16..end + ROW].copy_from_slice(&sum);
    Ok(())
}

/// The layout for 4 MiB of flash: two slots of 1984 KiB on 64 KiB boundaries, and 32 KiB of state.
pub fn default_layout() -> [Partition; 6] {
    [
        Partition::new("nvs", PartitionType::Nvs, 0x9000, 0x5000),
        Partition::new("otadata", PartitionType::OtaData, 0xE000, 0x2000),
        Partition::new("otaru", PartitionType::Undefined, 0x1_0000, 0x8000),
        Partition::new("phy_init", PartitionType::Phy, 0x1_8000, 0x1000),
        Partition::new("ota_0", PartitionType::Ota(0), 0x2_0000, 0x1F_0000),
        Partition::new("ota_1", PartitionType::Ota(1), 0x21_0000, 0x1F_0000),
    ]
}

/// Name of a slot in the partition table, by its number in reports: `ota_0`, or `factory` for 255.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct SlotName(pub u8);

impl fmt::Display for SlotName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            255 => f.write_str("factory"),
            slot => write!(f, "ota_{slot}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_leads_back() {
        let mut bytes = [0; TABLE_LEN];
        emit(&default_layout(), &mut bytes).unwrap();
        let table = PartitionTable::parse(&bytes).unwrap();
        assert!(table.iter().eq(default_layout()));
        assert_eq!(table.slots(), 2);
        assert_eq!(table.slot(1).unwrap().offset, 0x21_0000);
        bytes[8] ^= 1;
        assert_eq!(PartitionTable::parse(&bytes).unwrap_err(), PartitionError::BadMd5);
    }

    #[test]
    fn numbers_of_types_lead_back() {
        for (kind, subtype) in
            (0..=u8::MAX).flat_map(|kind| (0..=u8::MAX).map(move |subtype| (kind, subtype)))
        {
            assert_eq!(PartitionType::from_numbers(kind, subtype).numbers(), (kind, subtype));
        }
    }

    #[test]
    fn blank_flash_has_no_table() {
        assert_eq!(PartitionTable::parse(&[0xFF; TABLE_LEN]).unwrap_err(), PartitionError::Missing);
        assert_eq!(PartitionTable::parse(&[]).unwrap_err(), PartitionError::Missing);
        assert_eq!(PartitionTable::parse(&[0; 64]).unwrap_err(), PartitionError::BadRow(0));
    }
}
