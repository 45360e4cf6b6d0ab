//! Records of what was done to a chip: counts, operations, and which of its first contents were looked at.

use super::units::{PAGE, SECTOR};

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

/// Record of which initial contents of the chip were looked at since.
#[derive(Debug)]
pub(super) struct InitialReads {
    erased: Vec<bool>,
    pub(super) read: Vec<bool>,
}

impl InitialReads {
    pub(super) fn of(len: u32) -> Self {
        Self { erased: vec![false; (len / SECTOR) as usize], read: vec![false; (len / PAGE) as usize] }
    }

    pub(super) fn note_read(&mut self, at: u32, len: u32) {
        for page in at / PAGE..(at + len).div_ceil(PAGE) {
            self.read[page as usize] |= !self.erased[(page * PAGE / SECTOR) as usize];
        }
    }

    pub(super) fn note(&mut self, operation: Operation) {
        let Operation { erase, offset, len } = operation;
        if erase {
            self.erased[(offset / SECTOR) as usize..((offset + len) / SECTOR) as usize].fill(true);
        } else {
            // What programming leaves depends on what was there.
            self.note_read(offset, len);
        }
    }
}
