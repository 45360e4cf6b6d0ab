//! A release file as it arrives: the signed manifest first, then the payload that costs least: a patch for the image that
//! runs ([`super::patch`]), or the blocks that the slot does not hold yet, each held against its hash when it is whole.
//!
//! Nothing is erased before the signature is checked, and no block is begun before the one in front of it has
//! proved right; so what is in the slot up to the first block that does not match is good, also after a loss of
//! power, and needs no journal.

use embedded_storage_async::nor_flash::{MultiwriteNorFlash, ReadNorFlash};
use otaru_format::digest::Digest;
use otaru_format::image::HEAD_LEN;
use otaru_format::partition::{self, TABLE_OFFSET};
use otaru_format::release::{Envelope, HEADER_LEN, MAX_ENVELOPE, Manifest, envelope_len};
#[cfg(feature = "lzma")]
use otaru_format::release::{Payload, PayloadKind};
use sha2::{Digest as _, Sha256};

use super::failure::Reason;
use super::frames::{Arrival, Frames, Unpacker, smallest};
#[cfg(feature = "lzma")]
use super::patch::{self, Fault, Patch};
use super::plan::{Plan, Unfit, table_bytes};
use super::stream::{CHUNK, Feeder, Place, Stop};
use super::workspace::{Memory, ReleaseMemory};
use crate::memory::Candidate;
use crate::report::Reports;
use crate::slots::Region;
use crate::text;

/// Bytes that are read and dropped rather than asked for anew with another request.
const SKIP: u32 = 8 * 1024;
/// Bytes that flash is read by, at most.
const WORD: usize = 32;
/// Bad blocks that are fetched again, over a whole update.
const MAX_BAD_BLOCKS: u8 = 6;

/// A release on its way to the slot.
pub(super) struct Release<'w> {
    /// Header and envelope.
    file: &'w mut [u8; HEADER_LEN + MAX_ENVELOPE],
    have: usize,
    /// The payloads' memory, until frames have it for good.
    memory: Option<&'w mut Memory>,
    unpack: Option<Unpacker<'w>>,
    course: Option<Course>,
    bad_blocks: u8,
    front: Front,
}

/// Head of the image, taken from its first block as that passes.
#[derive(Clone, Copy, Default)]
struct Front {
    /// Whether it fits, without and with a partition table at its usual place.
    unfit: [Option<Unfit>; 2],
    /// Bytes of that table's start that were found.
    table: u8,
}

/// What is fetched.
enum Course {
    #[cfg(feature = "lzma")]
    Patch {
        patch: Patch,
        /// Blocks of the image that stand in the slot.
        good: usize,
    },
    Frames(Frames),
}

impl Course {
    /// The next byte of the file that is needed.
    const fn next_byte(&self) -> u32 {
        match self {
            #[cfg(feature = "lzma")]
            Self::Patch { patch, .. } => patch.next_byte(),
            Self::Frames(frames) => frames.next_byte(),
        }
    }
}

impl<'w> Release<'w> {
    pub(super) fn new(memory: &'w mut ReleaseMemory) -> Self {
        Self {
            file: &mut memory.file,
            have: 0,
            memory: Some(&mut memory.memory),
            unpack: None,
            course: None,
            bad_blocks: 0,
            front: Front::default(),
        }
    }

    /// Forgets everything: the file is another one.
    pub(super) fn restart(&mut self) {
        self.have = 0;
        self.course = None;
        self.front = Front::default();
    }

    /// Bad blocks so far, and the number of the block that arrives.
    pub(super) fn damage(&self) -> (u8, usize) {
        let block = match &self.course {
            Some(Course::Frames(frames)) => frames.index + 1,
            _ => 0,
        };
        (self.bad_blocks, block)
    }

    /// Image bytes that stand in the slot or are on their way, and how many there will be. To fetch a patch is half of the
    /// way, to apply it the other.
    pub(super) fn progress(&self) -> Option<(u32, u32)> {
        match self.course.as_ref()? {
            #[cfg(feature = "lzma")]
            Course::Patch { patch, .. } => {
                let (have, len) = patch.progress();
                Some((have, len.saturating_mul(2)))
            }
            Course::Frames(frames) => {
                let size = self.manifest()?.size;
                Some((frames.block.offset.saturating_add(frames.made).min(size), size))
            }
        }
    }

    /// What to remember of this release once its image is confirmed.
    pub(super) fn candidate(&self) -> Option<Candidate> {
        let manifest = self.manifest()?;
        let envelope = Envelope::parse(self.file.get(HEADER_LEN..self.have)?).ok()?;
        Some(Candidate {
            image: manifest.image,
            signed: envelope.signature().is_some(),
            sequence: manifest.sequence,
            product: text::cut(manifest.product),
            revoked: manifest.revoked().collect(),
        })
    }

    fn manifest(&self) -> Option<Manifest<'_>> {
        manifest(self.file, self.have)
    }

    /// Takes the file's bytes at `offset`; what is not needed is passed over.
    pub(super) async fn take<F: MultiwriteNorFlash>(
        &mut self,
        mut offset: u32,
        mut bytes: &[u8],
        plan: &Plan<'_>,
        feeder: &mut Feeder<'_>,
        place: Place<'_, '_, F>,
    ) -> Result<(), Stop> {
        if self.course.is_none() {
            let used = self.collect(offset, bytes)?;
            offset += used as u32;
            bytes = &bytes[used..];
            if self.is_collected()? {
                self.begin(plan, feeder, place).await?;
            }
        }
        while let Some(course) = &self.course {
            let wanted = course.next_byte();
            // Where a server knows no ranges, the file passes by from its start.
            let skip = wanted.saturating_sub(offset).min(bytes.len() as u32);
            offset += skip;
            bytes = &bytes[skip as usize..];
            if bytes.is_empty() {
                break;
            }
            if offset != wanted {
                return Err(Stop::Seek(wanted));
            }
            let used = self.feed(bytes, plan, feeder, place).await?;
            offset += used;
            bytes = &bytes[used as usize..];
        }
        Ok(())
    }

    /// Keeps what belongs to header and envelope; says how many bytes that were.
    fn collect(&mut self, offset: u32, bytes: &[u8]) -> Result<usize, Stop> {
        if offset > self.have as u32 {
            return Err(Stop::Seek(self.have as u32));
        }
        // After a cut, a server without ranges sends again what is here already.
        let known = (self.have as u32).saturating_sub(offset).min(bytes.len() as u32) as usize;
        let mut used = known;
        while used < bytes.len() && !self.is_collected()? {
            let end = self.collect_end()?;
            let count = (bytes.len() - used).min(end - self.have);
            self.file[self.have..self.have + count].copy_from_slice(&bytes[used..used + count]);
            self.have += count;
            used += count;
        }
        Ok(used)
    }

    /// The end of what is collected next: the header, then the envelope.
    fn collect_end(&self) -> Result<usize, Stop> {
        match self.file.first_chunk() {
            Some(header) if self.have >= HEADER_LEN => {
                Ok(HEADER_LEN + envelope_len(header)?.min(MAX_ENVELOPE))
            }
            _ => Ok(HEADER_LEN),
        }
    }

    fn is_collected(&self) -> Result<bool, Stop> {
        Ok(self.have >= HEADER_LEN && self.have == self.collect_end()?)
    }

    /// The envelope is whole: decides, and finds out what is missing.
    async fn begin<F: MultiwriteNorFlash>(
        &mut self,
        plan: &Plan<'_>,
        feeder: &mut Feeder<'_>,
        place: Place<'_, '_, F>,
    ) -> Result<(), Stop> {
        let file: &[u8] = &*self.file;
        let envelope = Envelope::parse(&file[HEADER_LEN..self.have])?;
        let manifest = plan.admit_release(&envelope)?;
        feeder.total = Some(manifest.size);
        let good = intact_blocks(&manifest, feeder, place).await?;
        if good > 0 {
            let mut flash = place.flash.lock().await;
            judge_slot(&mut **flash, place.target, feeder.buffer().await, plan).await?;
        }
        if good == manifest.block_count() {
            return Err(Stop::Complete);
        }
        if good > 0 {
            text::info(format_args!(
                "release: {good} of {} blocks stand in the slot already",
                manifest.block_count()
            ));
        }
        let at = self.have as u32;
        let course = match self.patch(plan, good, place).await? {
            Some(course) => course,
            None => self.frames(good, feeder).await?,
        };
        let wanted = course.next_byte();
        self.course = Some(course);
        match &self.course {
            #[cfg(feature = "lzma")]
            Some(Course::Patch { patch, .. }) if patch.is_whole() => Err(Stop::Complete),
            _ if wanted > at.saturating_add(SKIP) => Err(Stop::Seek(wanted)),
            _ => Ok(()),
        }
    }

    /// Sets off to fetch a patch, if there is one for the running image that saves bytes and has room.
    #[cfg(feature = "lzma")]
    async fn patch<F: MultiwriteNorFlash>(
        &mut self,
        plan: &Plan<'_>,
        good: usize,
        place: Place<'_, '_, F>,
    ) -> Result<Option<Course>, Stop> {
        let area = self.have as u32;
        let (Some(manifest), Some(memory)) = (manifest(self.file, self.have), self.memory.as_mut()) else {
            return Ok(None);
        };
        let base = &plan.running.image;
        let Some(payload) = delta(&manifest, base) else { return Ok(None) };
        if smallest(&manifest, good).is_some_and(|(_, missing)| missing <= payload.len) {
            return Ok(None);
        }
        let Some(stage) = patch::stage(place.target, manifest.size, payload.len, F::ERASE_SIZE as u32) else {
            text::info(format_args!(
                "release: no room behind the image for a patch of {} bytes",
                payload.len
            ));
            return Ok(None);
        };
        text::info(format_args!(
            "release: a patch of {} bytes makes this image of {}",
            payload.len, manifest.size
        ));
        let patch = Patch::open(&manifest, (&payload, base, area), stage, memory, place.flash).await?;
        Ok(Some(Course::Patch { patch, good }))
    }

    #[cfg(not(feature = "lzma"))]
    async fn patch<F: MultiwriteNorFlash>(
        &mut self,
        _: &Plan<'_>,
        _: usize,
        _: Place<'_, '_, F>,
    ) -> Result<Option<Course>, Stop> {
        Ok(None)
    }

    /// Sets off to fetch the blocks from this one on.
    async fn frames(&mut self, index: usize, feeder: &mut Feeder<'_>) -> Result<Course, Stop> {
        let manifest = manifest(self.file, self.have).ok_or(GONE)?;
        let (payload, _) = smallest(&manifest, index).ok_or(Reason::NoPayload)?;
        let frames = Frames::at(&manifest, payload, index, self.have as u32).ok_or(GONE)?;
        if let Some(memory) = self.memory.take() {
            self.unpack = Unpacker::new(memory);
        }
        feeder.seek(frames.block.offset).await;
        self.unpack.as_mut().ok_or(GONE)?.begin(&frames);
        Ok(Course::Frames(frames))
    }

    /// Takes bytes of the patch or of the present frame; says how many.
    async fn feed<F: MultiwriteNorFlash>(
        &mut self,
        bytes: &[u8],
        plan: &Plan<'_>,
        feeder: &mut Feeder<'_>,
        place: Place<'_, '_, F>,
    ) -> Result<u32, Stop> {
        #[cfg(not(feature = "lzma"))]
        let _ = place;
        match &mut self.course {
            #[cfg(feature = "lzma")]
            Some(Course::Patch { patch, .. }) => {
                let memory = self.memory.as_mut().ok_or(GONE)?;
                patch.feed(bytes, memory, place.flash).await
            }
            _ => self.feed_frame(bytes, plan, feeder).await,
        }
    }

    /// Takes bytes of the present frame; says how many.
    async fn feed_frame(
        &mut self,
        bytes: &[u8],
        plan: &Plan<'_>,
        feeder: &mut Feeder<'_>,
    ) -> Result<u32, Stop> {
        let (Some(Course::Frames(frames)), Some(unpack)) = (&mut self.course, &mut self.unpack) else {
            return Ok(0);
        };
        let mut piece = frames.accept(bytes);
        let taken = piece.len() as u32;
        let broken = loop {
            let Some((used, out)) = unpack.step(frames, piece) else { break true };
            if used == 0 && out.is_empty() {
                break false;
            }
            let at = frames.made;
            frames.count(out);
            let mut out = out;
            if frames.index == 0 {
                out = self.front.look(at, out, plan, feeder).await;
            }
            feeder.put(out).await;
            piece = &piece[used..];
        };
        let (index, front) = (frames.index, self.front);
        match if broken { Arrival::Bad } else { frames.arrival(unpack) } {
            Arrival::Partial => Ok(taken),
            // Only now is it known that these are the release's bytes and not damage on the way.
            Arrival::Good if index == 0 && front.verdict().is_some() => {
                Err(front.verdict().unwrap_or(Unfit::Broken).into())
            }
            Arrival::Good => self.next_block().map(|()| taken),
            Arrival::Bad => Err(self.again(feeder).await),
        }
    }

    fn next_block(&mut self) -> Result<(), Stop> {
        let (Some(Course::Frames(frames)), Some(unpack)) = (&mut self.course, &mut self.unpack) else {
            return Ok(());
        };
        let manifest = manifest(self.file, self.have);
        if !manifest.is_some_and(|manifest| frames.advance(&manifest)) {
            return Err(Stop::Complete);
        }
        unpack.begin(frames);
        Ok(())
    }

    /// The block is not what the manifest says: fetch it once more, a bounded number of times.
    async fn again(&mut self, feeder: &mut Feeder<'_>) -> Stop {
        let count = self.manifest().map_or(0, |manifest| manifest.block_count());
        let (Some(Course::Frames(course)), Some(unpack)) = (&mut self.course, &mut self.unpack) else {
            return Stop::Complete;
        };
        self.bad_blocks += 1;
        if self.bad_blocks > MAX_BAD_BLOCKS {
            return Reason::Block { number: course.index as u32 + 1, count: count as u32 }.into();
        }
        text::warn(format_args!("release: block {} of {count} is bad, fetching it again", course.index + 1));
        self.front = Front::default();
        course.restart();
        unpack.begin(course);
        feeder.seek(course.block.offset).await;
        Stop::Seek(course.next_byte())
    }

    /// Everything is here: applies the patch if it is one, and hands the last buffer over. A patch that is of no use is
    /// given up, and the rest of the image is fetched instead: [`Stop::Seek`].
    pub(super) async fn finish<F: MultiwriteNorFlash>(
        &mut self,
        feeder: &mut Feeder<'_>,
        place: Place<'_, '_, F>,
        reports: &Reports<'_>,
    ) -> Result<(), Stop> {
        #[cfg(not(feature = "lzma"))]
        let _ = (place, reports);
        #[cfg(feature = "lzma")]
        if let Some(Course::Patch { patch, good }) = &self.course {
            let manifest = manifest(self.file, self.have).ok_or(GONE)?;
            let memory = self.memory.as_mut().ok_or(GONE)?;
            match patch.apply(&manifest, *good, place, memory, reports).await {
                Ok(()) => {}
                Err(Fault::Failed(reason)) => return Err(reason.into()),
                Err(Fault::Useless(done)) => {
                    reports.line(format_args!("The patch is of no use here. Fetching the image instead."));
                    let course = self.frames(done, feeder).await?;
                    let wanted = course.next_byte();
                    self.course = Some(course);
                    return Err(Stop::Seek(wanted));
                }
            }
        }
        feeder.finish(self.manifest().ok_or(GONE)?.image).await;
        Ok(())
    }
}

impl Front {
    /// Looks at bytes of the first block that begin at its byte `at`, and hands those over that belong to the head. Gives back the rest.
    async fn look<'b>(
        &mut self,
        at: u32,
        bytes: &'b [u8],
        plan: &Plan<'_>,
        feeder: &mut Feeder<'_>,
    ) -> &'b [u8] {
        self.table += table_bytes(at, bytes);
        let missing = HEAD_LEN.saturating_sub(at as usize);
        let (head, rest) = bytes.split_at(missing.min(bytes.len()));
        if !head.is_empty() {
            feeder.put(head).await;
            if head.len() == missing {
                let head = &feeder.buffer().await[..HEAD_LEN];
                self.unfit = [false, true].map(|table| plan.judge(head, table).err());
            }
        }
        rest
    }

    /// Why the image does not fit, once all of the block was looked at.
    const fn verdict(&self) -> Option<Unfit> {
        self.unfit[(self.table == 2) as usize]
    }
}

/// Holds the image in the slot against the plan, through `buf`.
pub(super) async fn judge_slot<F: ReadNorFlash>(
    flash: &mut F,
    slot: Region,
    buf: &mut [u8],
    plan: &Plan<'_>,
) -> Result<(), Reason> {
    let word = &mut buf[..WORD];
    flash.read(slot.offset + TABLE_OFFSET, word).await.map_err(|_| Reason::Flash)?;
    let table = word.starts_with(&partition::MAGIC);
    let head = &mut buf[..HEAD_LEN];
    flash.read(slot.offset, head).await.map_err(|_| Reason::Flash)?;
    Ok(plan.judge(head, table)?)
}

/// Reads the manifest again, which was checked before.
fn manifest(file: &[u8; HEADER_LEN + MAX_ENVELOPE], have: usize) -> Option<Manifest<'_>> {
    let envelope = Envelope::parse(file.get(HEADER_LEN..have)?).ok()?;
    Manifest::parse(envelope.payload()).ok()
}

/// What cannot be: a manifest that was read cannot be read again.
const GONE: Reason = Reason::Release("the manifest is gone");

/// Blocks of the release that stand at the start of the slot.
async fn intact_blocks<F: ReadNorFlash>(
    manifest: &Manifest<'_>,
    feeder: &mut Feeder<'_>,
    place: Place<'_, '_, F>,
) -> Result<usize, Stop> {
    let mut flash = place.flash.lock().await;
    let buffer = feeder.buffer().await;
    for index in 0..manifest.block_count() {
        let Some(block) = manifest.block(index) else { return Ok(index) };
        let mut hasher = Sha256::new();
        let mut at = 0;
        while at < block.len {
            let count = (block.len - at).min(CHUNK as u32) as usize;
            // Flash is read by the word; the slot is longer than any image in it.
            let words = count.next_multiple_of(F::READ_SIZE.max(4)).min(CHUNK);
            flash
                .read(place.target.offset + block.offset + at, &mut buffer[..words])
                .await
                .map_err(|_| Reason::Flash)?;
            hasher.update(&buffer[..count]);
            at += count as u32;
        }
        if Digest::from_hasher(hasher) != block.hash {
            return Ok(index);
        }
    }
    Ok(manifest.block_count())
}

/// The patch for an image, if there is one: no two are for the same.
#[cfg(feature = "lzma")]
fn delta<'m>(manifest: &Manifest<'m>, running: &Digest) -> Option<Payload<'m>> {
    let fits =
        |payload: &Payload<'_>| matches!(&payload.kind, PayloadKind::Delta { base } if base == running);
    manifest.payloads().find(fits)
}
