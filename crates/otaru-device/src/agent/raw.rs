//! A bare image as it arrives: its head is held against the plan before the first buffer goes to flash, its
//! structure, checksum and digest are checked all along.
//!
//! A signature block of secure boot behind it is kept, anything else that follows is left out. An image that says nothing about itself
//! is read up to where a merged flash image has its partition table, before anything of it is written.

use otaru_format::image::file::{BOOTLOADER_OFFSETS, SECTOR, SIGNATURE_MAGIC, signed_len};
use otaru_format::image::{HEAD_LEN, Head, ImageCheck, ImageError, MAGIC};
use otaru_format::partition::TABLE_OFFSET;

use super::failure::Reason;
use super::fetch::{Fetch, Fetched};
use super::plan::{Admission, Plan, table_bytes};
use super::stream::Feeder;
use super::unfit::Unfit;
use crate::http::Need;
use crate::platform::Platform;
use crate::report::Reports;

/// Bytes up to which a partition table is looked for.
const TABLE_END: u32 = TABLE_OFFSET + 2;

impl<P: Platform> Fetch<'_, '_, P> {
    /// Fetches a bare image.
    pub(super) async fn fetch_raw(&mut self) -> Result<Fetched, Reason> {
        self.file.vouch(self.plan.offered.is_some())?;
        self.file.set_end(u32::MAX);
        let mut raw = Raw::new(self.layout.target.len, false);
        loop {
            // A file that is asked for anew may tell its length only now.
            self.file.fill(Need::More).await?;
            self.feeder.total = self.file.len();
            if self.read_raw(&mut raw).await? == Next::Nothing {
                return Ok(Fetched { image: None, release: None });
            }
            if raw.part != Part::Nameless {
                let image = Some(raw.check.finish()?.digest);
                self.feeder.finish().await;
                return Ok(Fetched { image, release: None });
            }
            // It is no merged image: fetched anew if it may say nothing about itself.
            if !self.plan.force {
                return Err(Unfit::Nameless.into());
            }
            self.file.seek(0);
            raw = Raw::new(self.layout.target.len, true);
        }
    }

    /// Reads the file as far as it is needed.
    async fn read_raw(&mut self, raw: &mut Raw) -> Result<Next, Reason> {
        loop {
            if self.file.fill(raw.need(self.feeder.total)).await? == 0 {
                return Ok(Next::Enough);
            }
            let piece = self.file.piece();
            let count = piece.len();
            let next = raw.take(piece, self.plan, &mut self.feeder, self.reports).await?;
            self.file.consume(count);
            if next != Next::More {
                return Ok(next);
            }
            self.tell_progress(raw.received, self.feeder.total.unwrap_or(0));
        }
    }
}

/// Need of an image after some of its bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    More,
    /// No more bytes.
    Enough,
    /// Nothing: it is the image that runs.
    Nothing,
}

/// An image on its way to the slot.
struct Raw {
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
    fn new(slot_len: u32, looked: bool) -> Self {
        Self { check: ImageCheck::new(slot_len), received: 0, slot_len, part: Part::Image, table: 0, looked }
    }

    /// Returns what the image, by its own account, needs of the file, which has `total` bytes if that is known.
    fn need(&self, total: Option<u32>) -> Need {
        if !self.check.is_complete() || self.part == Part::Blank {
            return Need::More;
        }
        let len = self.check.len();
        let block = signed_len(len).unwrap_or(u32::MAX);
        let nothing_follows = match total {
            Some(total) => total < block || self.received >= total,
            None => self.received == len,
        };
        let settled = nothing_follows || self.part == Part::Rest || self.received >= block;
        if settled { Need::Enough } else { Need::MayEnd }
    }

    /// Takes the next bytes.
    async fn take(
        &mut self,
        bytes: &[u8],
        plan: &Plan<'_>,
        feeder: &mut Feeder<'_>,
        reports: &Reports<'_>,
    ) -> Result<Next, Reason> {
        if self.received == 0 {
            match bytes.first() {
                Some(&MAGIC) => plan.admit_unsigned()?,
                Some(0xFF) => self.part = Part::Blank,
                // A page of a web server is no firmware, signed or not.
                Some(magic) => return Err(ImageError::NotAnImage { magic: *magic }.into()),
                None => return Ok(Next::More),
            }
        }
        self.table += table_bytes(self.received, bytes);
        match self.part {
            Part::Blank => self.pass_blank(bytes),
            Part::Nameless => self.pass_nameless(bytes),
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
    ) -> Result<Next, Reason> {
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
                    return self.pass_nameless(later);
                }
                if plan.admit_image(head)? == Admission::AlreadyRunning {
                    return Ok(Next::Nothing);
                }
                if feeder.total.is_some_and(|total| total > self.slot_len) {
                    return Err(Reason::TooLarge);
                }
            }
            feeder.pass_full().await;
            bytes = later;
        }
        if bytes.is_empty() { Ok(Next::More) } else { self.take_signature(bytes, feeder, reports).await }
    }

    /// Keeps what follows the image if it is a signature block.
    async fn take_signature(
        &mut self,
        mut bytes: &[u8],
        feeder: &mut Feeder<'_>,
        reports: &Reports<'_>,
    ) -> Result<Next, Reason> {
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
                return Err(Reason::TooLarge);
            }
            // Byte by byte up to the block's own content, which is taken as it comes.
            let count = if wanted.is_some() { 1 } else { bytes.len().min((end - self.received) as usize) };
            feeder.put(&bytes[..count]).await;
            self.received += count as u32;
            bytes = &bytes[count..];
        }
        Ok(Next::More)
    }

    /// Passes over what is left out, as far as a partition table may stand there.
    fn pass_rest(&mut self, bytes: &[u8]) -> Result<Next, Reason> {
        self.received = self.received.saturating_add(bytes.len() as u32);
        if self.check.len() > TABLE_OFFSET {
            return Ok(Next::Enough);
        }
        self.refuse_table()?;
        Ok(self.until_table())
    }

    /// Returns whether more is needed to know if there is a partition table.
    const fn until_table(&self) -> Next {
        if self.received >= TABLE_END { Next::Enough } else { Next::More }
    }

    /// Refuses the file if a partition table was found.
    fn refuse_table(&self) -> Result<(), Unfit> {
        if self.table == 2 { Err(Unfit::Merged) } else { Ok(()) }
    }

    /// Passes over blank flash, to where a bootloader may stand.
    fn pass_blank(&mut self, bytes: &[u8]) -> Result<Next, Reason> {
        for byte in bytes {
            match *byte {
                0xFF if self.received < BOOTLOADER_OFFSETS[2] => self.received += 1,
                MAGIC if BOOTLOADER_OFFSETS.contains(&self.received) => {
                    return Err(Unfit::Merged.into());
                }
                magic => return Err(ImageError::NotAnImage { magic }.into()),
            }
        }
        Ok(Next::More)
    }

    /// Reads an image that says nothing about itself as far as a partition table may stand.
    fn pass_nameless(&mut self, bytes: &[u8]) -> Result<Next, Reason> {
        self.refuse_table()?;
        self.check.feed(bytes)?;
        self.received = self.received.saturating_add(bytes.len() as u32);
        Ok(self.until_table())
    }
}
