//! A bare image as it arrives: its head is held against the plan before the first buffer goes to flash, its
//! structure, checksum and digest are checked all along.
//!
//! A signature block of secure boot behind it is kept, anything else that follows is left out. An image that says nothing about itself
//! is read up to where a merged flash image has its partition table, before anything of it is written.

use otaru_format::image::file::{BOOTLOADER_OFFSETS, SECTOR, SIGNATURE_MAGIC, signed_len};
use otaru_format::image::{HEAD_LEN, Head, ImageCheck, ImageError, MAGIC};
use otaru_format::partition::TABLE_OFFSET;

use super::failure::Reason;
use super::plan::{Plan, Unfit, table_bytes};
use super::stream::{Feeder, Stop};
use crate::report::Reports;

/// Bytes up to which a partition table is looked for.
const TABLE_END: u32 = TABLE_OFFSET + 2;

/// An image on its way to the slot.
pub(super) struct Raw {
    check: ImageCheck,
    received: u32,
    slot_len: u32,
    part: Part,
    /// Bytes of a partition table's start that were found at its place.
    table: u8,
    /// Whether it was read as far as a partition table already.
    looked: bool,
}

/// The part of the file that arrives.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Blank flash, as in front of some chips' bootloaders.
    Blank,
    /// An image that says nothing about itself, which is not written yet.
    Nameless,
    /// The image, and behind it perhaps a signature block.
    Image,
    /// Part that is left out.
    Rest,
}

impl Raw {
    pub(super) fn new(slot_len: u32) -> Self {
        Self {
            check: ImageCheck::new(slot_len),
            received: 0,
            slot_len,
            part: Part::Image,
            table: 0,
            looked: false,
        }
    }

    /// Begins again.
    pub(super) fn restart(&mut self) {
        *self = Self::new(self.slot_len);
    }

    /// Bytes that arrived.
    pub(super) const fn received(&self) -> u32 {
        self.received
    }

    /// Whether the image has arrived whole, by its own account, and nothing that belongs to it can follow. `ended` says that the file
    /// has come to its end; it has `total` bytes, if that is known.
    pub(super) fn is_complete(&self, ended: bool, total: Option<u32>) -> bool {
        let len = self.check.len();
        let block = signed_len(len).unwrap_or(u32::MAX);
        let nothing_follows = match total {
            Some(total) => total < block || self.received >= total,
            None => self.received == len,
        };
        let settled = ended || nothing_follows || self.part == Part::Rest || self.received >= block;
        self.check.is_complete() && self.part != Part::Blank && settled
    }

    /// Hands the last buffer over.
    pub(super) async fn finish(&mut self, plan: &Plan<'_>, feeder: &mut Feeder<'_>) -> Result<(), Stop> {
        if self.part == Part::Nameless {
            return Err(self.decide(plan));
        }
        let check = core::mem::replace(&mut self.check, ImageCheck::new(self.slot_len));
        feeder.finish(check.finish()?.digest).await;
        Ok(())
    }

    /// Takes the next bytes.
    pub(super) async fn take(
        &mut self,
        bytes: &[u8],
        plan: &Plan<'_>,
        feeder: &mut Feeder<'_>,
        reports: &Reports<'_>,
    ) -> Result<(), Stop> {
        if self.received == 0 {
            match bytes.first() {
                Some(&MAGIC) => plan.admit_unsigned()?,
                Some(0xFF) => self.part = Part::Blank,
                // A page of a web server is no firmware, signed or not.
                Some(magic) => return Err(ImageError::NotAnImage { magic: *magic }.into()),
                None => return Ok(()),
            }
        }
        self.table += table_bytes(self.received, bytes);
        match self.part {
            Part::Blank => self.pass_blank(bytes),
            Part::Nameless => self.pass_nameless(bytes, plan),
            Part::Image => self.take_image(bytes, plan, feeder, reports).await,
            Part::Rest => self.pass_rest(bytes),
        }
    }

    async fn take_image(
        &mut self,
        mut bytes: &[u8],
        plan: &Plan<'_>,
        feeder: &mut Feeder<'_>,
        reports: &Reports<'_>,
    ) -> Result<(), Stop> {
        if self.looked {
            self.refuse_table()?;
        }
        while !bytes.is_empty() && !self.check.is_complete() {
            let now = &bytes[..bytes.len().min(feeder.room())];
            self.check.feed(now)?;
            let (now, later) = bytes.split_at((self.check.len() - self.received) as usize);
            feeder.hold(now).await;
            let had = self.received as usize;
            self.received = self.check.len();
            if had < HEAD_LEN && self.received as usize >= HEAD_LEN {
                let head = &feeder.buffer().await[..HEAD_LEN];
                if !self.looked && Head::parse(head)?.descriptor.is_none() {
                    self.part = Part::Nameless;
                    feeder.seek(0).await;
                    return self.pass_nameless(later, plan);
                }
                plan.admit_image(head)?;
                if feeder.total.is_some_and(|total| total > self.slot_len) {
                    return Err(Reason::TooLarge.into());
                }
            }
            feeder.pass_full().await;
            bytes = later;
        }
        if bytes.is_empty() { Ok(()) } else { self.take_signature(bytes, feeder, reports).await }
    }

    /// Keeps what follows the image if it is a signature block.
    async fn take_signature(
        &mut self,
        mut bytes: &[u8],
        feeder: &mut Feeder<'_>,
        reports: &Reports<'_>,
    ) -> Result<(), Stop> {
        let end = signed_len(self.check.len()).ok_or(Reason::TooLarge)?;
        let start = end - SECTOR;
        while let Some(byte) = bytes.first() {
            let wanted = match self.received.checked_sub(start) {
                None => Some(&0xFF),
                Some(at) => SIGNATURE_MAGIC.get(at as usize),
            };
            if self.received >= end || wanted.is_some_and(|wanted| wanted != byte) {
                reports.line(format_args!("Leaving out what follows the image."));
                self.part = Part::Rest;
                return self.pass_rest(bytes);
            }
            if self.received >= start && end > self.slot_len {
                return Err(Reason::TooLarge.into());
            }
            // Byte by byte up to the block's own content, which is taken as it comes.
            let count = if wanted.is_some() { 1 } else { bytes.len().min((end - self.received) as usize) };
            feeder.put(&bytes[..count]).await;
            self.received += count as u32;
            bytes = &bytes[count..];
        }
        Ok(())
    }

    /// Passes over what is left out, as far as a partition table may stand there.
    fn pass_rest(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        self.received = self.received.saturating_add(bytes.len() as u32);
        if self.check.len() > TABLE_OFFSET {
            return Err(Stop::Complete);
        }
        self.refuse_table()?;
        if self.received >= TABLE_END { Err(Stop::Complete) } else { Ok(()) }
    }

    /// Refuses the file if a partition table was found.
    fn refuse_table(&self) -> Result<(), Unfit> {
        if self.table == 2 { Err(Unfit::Merged) } else { Ok(()) }
    }

    /// Passes over blank flash, to where a bootloader may stand.
    fn pass_blank(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        for byte in bytes {
            match *byte {
                0xFF if self.received < BOOTLOADER_OFFSETS[2] => self.received += 1,
                MAGIC if BOOTLOADER_OFFSETS.contains(&self.received) => {
                    return Err(Unfit::Merged.into());
                }
                magic => return Err(ImageError::NotAnImage { magic }.into()),
            }
        }
        Ok(())
    }

    /// Reads an image that says nothing about itself as far as a partition table may stand.
    fn pass_nameless(&mut self, bytes: &[u8], plan: &Plan<'_>) -> Result<(), Stop> {
        self.refuse_table()?;
        self.check.feed(bytes)?;
        self.received = self.received.saturating_add(bytes.len() as u32);
        if self.received >= TABLE_END { Err(self.decide(plan)) } else { Ok(()) }
    }

    /// It is no merged image: fetches it anew if it may say nothing about itself.
    fn decide(&mut self, plan: &Plan<'_>) -> Stop {
        if !plan.force {
            return Unfit::Nameless.into();
        }
        self.restart();
        self.looked = true;
        Stop::Seek(0)
    }
}
