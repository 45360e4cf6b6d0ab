//! Contents of a chip: in memory, in a file, or shared with other chips but for what differs.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::rc::Rc;

use super::error::FlashError;
use super::units::SECTOR;

#[derive(Debug)]
pub(super) enum Cells {
    Memory(Vec<u8>),
    File { file: File, len: u32 },
    Shared { image: Rc<[u8]>, own: Vec<Option<Box<[u8]>>> },
}

impl Cells {
    pub(super) fn len(&self) -> u32 {
        match self {
            Self::Memory(bytes) => bytes.len() as u32,
            Self::File { len, .. } => *len,
            Self::Shared { image, .. } => image.len() as u32,
        }
    }

    pub(super) fn read(&self, at: u32, out: &mut [u8]) -> Result<(), FlashError> {
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
    pub(super) fn holds(&self, at: u32, bytes: &[u8]) -> Result<bool, FlashError> {
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

    pub(super) fn write(&mut self, at: u32, data: &[u8]) -> Result<(), FlashError> {
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
