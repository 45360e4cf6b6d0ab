//! A delta on its way: kept in the free end of the slot while it arrives, then applied from there.
//!
//! The first page of that place says whose patch it is, and is written once all of it has been erased; the pages after it are
//! written in their order. So after a loss of power the last page that is not blank says where to go on, and no journal is
//! needed. Nothing there is trusted: whatever comes out of it is held against the hashes of the release, block by block.

use embedded_storage_async::nor_flash::{MultiwriteNorFlash, NorFlash, ReadNorFlash};
use otaru_delta::{DeltaError, Host};
use otaru_format::digest::Digest;
use otaru_format::release::{Block, Manifest, Payload};
use sha2::{Digest as _, Sha256};

use super::failure::Reason;
use super::page::{PAGE, Page};
use super::stream::{SharedFlash, SlotLayout};
use super::workspace::Memory;
use crate::report::Reports;
use crate::slots::{Region, SlotWriter};
use crate::text;

/// Bytes of the large erase block, up to whose end writing an image may erase.
const ERASE_BLOCK: u32 = 64 * 1024;
/// Bytes that the first page begins with.
const MARK: [u8; 4] = *b"OtSt";
/// Offset in the first page at which zeros say that the patch is whole.
const WHOLE: usize = 128;
/// The longest read of flash that ends at no word's end.
const WORD: usize = 32;

/// A patch that arrives.
pub(super) struct Patch {
    /// The patch's first byte in the release file.
    start: u32,
    len: u32,
    /// Region of the patch, with the page in front.
    stage: Region,
    /// Bytes that are here, those of an unfinished page in memory included.
    have: u32,
    whole: bool,
}

/// Returns the region for a patch of an image of this size, if there is room behind the image.
pub(super) fn stage(slot: Region, image: u32, patch: u32, sector: u32) -> Option<Region> {
    let len = patch.checked_add(PAGE as u32)?.checked_next_multiple_of(sector)?;
    let end = slot.offset.checked_add(slot.len)?;
    let offset = end.checked_sub(len)?;
    let image_end = slot.offset.checked_add(image)?.checked_next_multiple_of(ERASE_BLOCK)?;
    (offset.is_multiple_of(sector) && offset >= image_end).then_some(Region { offset, len })
}

impl Patch {
    /// Goes on with what is kept of this patch, or makes room for it.
    pub(super) async fn open<F: MultiwriteNorFlash>(
        manifest: &Manifest<'_>,
        (payload, base, area): (&Payload<'_>, &Digest, u32),
        stage: Region,
        memory: &mut Memory,
        flash: &SharedFlash<'_, F>,
    ) -> Result<Self, Reason> {
        let mut patch = Self {
            start: area.saturating_add(payload.offset),
            len: payload.len,
            stage,
            have: 0,
            whole: false,
        };
        let page = &mut memory.page;
        read(flash, stage.offset, page).await?;
        let name = name(&manifest.image, base, payload.len);
        if page.starts_with(&name) {
            patch.whole = page[WHOLE..WHOLE + 4] == [0; 4];
            patch.have = if patch.whole { patch.len } else { patch.kept(page, flash).await? };
            text::info(format_args!(
                "release: {} of {} bytes of the patch are here already",
                patch.have, patch.len
            ));
        } else {
            patch.make_room(flash).await?;
            page.fill(0xFF);
            page[..name.len()].copy_from_slice(&name);
            write(flash, stage.offset, page).await?;
        }
        Ok(patch)
    }

    /// Bytes up to the last page that is not blank; that one may be torn, and is written again.
    async fn kept<F: NorFlash>(&self, page: &mut Page, flash: &SharedFlash<'_, F>) -> Result<u32, Reason> {
        let mut have = (self.len - 1) / PAGE as u32 * PAGE as u32;
        while have > 0 {
            read(flash, self.place(have), page).await?;
            if page.iter().any(|byte| *byte != 0xFF) {
                break;
            }
            have -= PAGE as u32;
        }
        Ok(have)
    }

    /// Erases the place, front first, so that what stood there is no patch from the first moment on.
    async fn make_room<F: NorFlash>(&self, flash: &SharedFlash<'_, F>) -> Result<(), Reason> {
        let sector = F::ERASE_SIZE as u32;
        let mut at = self.stage.offset;
        while at < self.stage.offset + self.stage.len {
            // Others want the flash as well.
            flash.lock().await.erase(at, at + sector).await.map_err(|_| Reason::Flash)?;
            at += sector;
        }
        Ok(())
    }

    /// Returns the offset in flash of a byte of the patch.
    const fn place(&self, at: u32) -> u32 {
        self.stage.offset + PAGE as u32 + at
    }

    /// The next byte of the file that is needed.
    pub(super) const fn next_byte(&self) -> u32 {
        self.start.saturating_add(self.have)
    }

    /// Bytes that are here, and how many there will be.
    pub(super) const fn progress(&self) -> (u32, u32) {
        (self.have, self.len)
    }

    /// Whether it can be applied.
    pub(super) const fn is_whole(&self) -> bool {
        self.whole
    }

    /// Keeps the next bytes; returns how many it took.
    pub(super) async fn keep<F: MultiwriteNorFlash>(
        &mut self,
        bytes: &[u8],
        memory: &mut Memory,
        flash: &SharedFlash<'_, F>,
    ) -> Result<usize, Reason> {
        let page = &mut memory.page;
        let mut taken = 0;
        while taken < bytes.len() && self.have < self.len {
            let filled = self.have as usize % PAGE;
            let room = (PAGE - filled).min((self.len - self.have) as usize);
            let now = &bytes[taken..taken + room.min(bytes.len() - taken)];
            page[filled..filled + now.len()].copy_from_slice(now);
            taken += now.len();
            self.have += now.len() as u32;
            let filled = filled + now.len();
            if filled == PAGE || self.have == self.len {
                page[filled..].fill(0xFF);
                write(flash, self.place((self.have - 1) / PAGE as u32 * PAGE as u32), page).await?;
            }
        }
        if self.have == self.len {
            page.fill(0xFF);
            page[WHOLE..WHOLE + 4].fill(0);
            write(flash, self.stage.offset, page).await?;
            self.whole = true;
        }
        Ok(taken)
    }

    /// Makes the image, whose first `good` blocks stand in the slot already. Returns how many do then: all, or fewer where the patch is
    /// of no use.
    pub(super) async fn apply<F: NorFlash>(
        &self,
        manifest: &Manifest<'_>,
        good: usize,
        layout: SlotLayout<'_, '_, F>,
        memory: &mut Memory,
        reports: &Reports<'_>,
    ) -> Result<usize, Reason> {
        let Memory { page, delta } = memory;
        let mut writer = SlotWriter::new(layout.target);
        writer.expect(manifest.size);
        writer.seek(manifest.block(good).map_or(0, |block| block.offset));
        let mut images = Images {
            layout,
            patch: self,
            at: 0,
            page,
            writer,
            manifest,
            reports,
            good,
            index: 0,
            made: 0,
            hasher: Sha256::new(),
        };
        let size = manifest.size;
        let applied = otaru_delta::apply(&mut images, delta, |header| {
            (header.new_len == size && header.old_len <= layout.running.len)
                .then_some(())
                .ok_or(Trouble::Wrong)
        })
        .await;
        match applied {
            Err(DeltaError::Host(Trouble::Failed(reason))) => return Err(reason),
            _ if images.index == manifest.block_count() => {}
            Err(DeltaError::Patch(error)) => {
                text::warn(format_args!("release: the patch does not apply: {error}"))
            }
            _ => text::warn(format_args!(
                "release: the patch makes another image at block {}",
                images.index + 1
            )),
        }
        Ok(images.index.max(good))
    }
}

/// Writes what the first page says: the images that the patch leads from and to, and its length.
fn name(image: &Digest, base: &Digest, len: u32) -> [u8; 72] {
    let mut name = [0; 72];
    name[..4].copy_from_slice(&MARK);
    name[4..8].copy_from_slice(&len.to_le_bytes());
    name[8..40].copy_from_slice(&image.0);
    name[40..].copy_from_slice(&base.0);
    name
}

/// Old image, new image and patch, as the decoder wants them.
struct Images<'a, 'f, F> {
    layout: SlotLayout<'a, 'f, F>,
    patch: &'a Patch,
    /// Bytes of the patch that were read.
    at: u32,
    page: &'a mut Page,
    writer: SlotWriter,
    manifest: &'a Manifest<'a>,
    reports: &'a Reports<'a>,
    good: usize,
    /// The block that is being made, how much of it there is, and its hash so far.
    index: usize,
    made: u32,
    hasher: Sha256,
}

/// Why the decoder is stopped.
enum Trouble {
    Failed(Reason),
    /// The result is not the image.
    Wrong,
}

impl From<Reason> for Trouble {
    fn from(reason: Reason) -> Self {
        Self::Failed(reason)
    }
}

impl<F: NorFlash> Images<'_, '_, F> {
    /// Takes a part of the present block.
    async fn make(&mut self, bytes: &[u8], block: &Block) -> Result<(), Trouble> {
        self.hasher.update(bytes);
        self.made += bytes.len() as u32;
        if self.index >= self.good {
            let mut flash = self.layout.flash.lock().await;
            self.writer.write(&mut **flash, bytes).await.map_err(|_| Reason::Flash)?;
        }
        if self.made < block.len {
            return Ok(());
        }
        let hash = Digest::from_hasher(core::mem::take(&mut self.hasher));
        if hash != block.hash {
            return Err(Trouble::Wrong);
        }
        (self.index, self.made) = (self.index + 1, 0);
        let done = u64::from(block.offset) + u64::from(block.len);
        let percent = 50 + done * 50 / u64::from(self.manifest.size).max(1);
        self.reports.progress(u8::try_from(percent).unwrap_or(100));
        Ok(())
    }
}

impl<F: NorFlash> Host for Images<'_, '_, F> {
    type Error = Trouble;

    async fn read_patch(&mut self, buf: &mut [u8]) -> Result<usize, Trouble> {
        let within = self.at as usize % PAGE;
        if within == 0 && self.at < self.patch.len {
            read(self.layout.flash, self.patch.place(self.at), self.page).await?;
        }
        let count = buf.len().min(PAGE - within).min((self.patch.len - self.at) as usize);
        buf[..count].copy_from_slice(&self.page[within..within + count]);
        self.at += count as u32;
        Ok(count)
    }

    async fn read_old(&mut self, offset: u32, buf: &mut [u8]) -> Result<(), Trouble> {
        read_within(self.layout.flash, self.layout.running, offset, buf).await
    }

    async fn read_new(&mut self, offset: u32, buf: &mut [u8]) -> Result<(), Trouble> {
        read_within(self.layout.flash, self.layout.target, offset, buf).await
    }

    async fn write_new(&mut self, mut bytes: &[u8]) -> Result<(), Trouble> {
        while !bytes.is_empty() {
            let block = self.manifest.block(self.index).ok_or(Trouble::Wrong)?;
            let left = block.len.saturating_sub(self.made) as usize;
            let (now, later) = bytes.split_at(bytes.len().min(left));
            self.make(now, &block).await?;
            bytes = later;
        }
        Ok(())
    }
}

async fn read_within<F: ReadNorFlash>(
    flash: &SharedFlash<'_, F>,
    region: Region,
    offset: u32,
    buf: &mut [u8],
) -> Result<(), Trouble> {
    match offset.checked_add(buf.len() as u32) {
        Some(end) if end <= region.len => Ok(read(flash, region.offset + offset, buf).await?),
        _ => Err(Trouble::Wrong),
    }
}

/// Reads bytes from the start of a word on, whatever the length of what flash is read by.
async fn read<F: ReadNorFlash>(flash: &SharedFlash<'_, F>, at: u32, buf: &mut [u8]) -> Result<(), Reason> {
    let mut flash = flash.lock().await;
    let (words, rest) = buf.split_at_mut(buf.len() / F::READ_SIZE * F::READ_SIZE);
    flash.read(at, words).await.map_err(|_| Reason::Flash)?;
    if !rest.is_empty() {
        let mut word = [0; WORD];
        let word = word.get_mut(..F::READ_SIZE).unwrap_or_default();
        flash.read(at + words.len() as u32, word).await.map_err(|_| Reason::Flash)?;
        rest.iter_mut().zip(word).for_each(|(byte, read)| *byte = *read);
    }
    Ok(())
}

async fn write<F: NorFlash>(flash: &SharedFlash<'_, F>, at: u32, page: &Page) -> Result<(), Reason> {
    flash.lock().await.write(at, page).await.map_err(|_| Reason::Flash)
}
