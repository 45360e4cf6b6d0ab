//! A release file as it arrives: the signed manifest first, then the blocks that the slot does not hold yet, each
//! held against its hash when it is whole.
//!
//! Nothing is erased before the signature is checked, and no block is begun before the one in front of it has
//! proved right; so what is in the slot up to the first block that does not match is good, also after a loss of
//! power, and needs no journal.

use embedded_storage_async::nor_flash::ReadNorFlash;
use otaru_format::digest::Digest;
use otaru_format::release::{
    Block, Envelope, Frame, HEADER_LEN, MAX_ENVELOPE, Manifest, PayloadKind, envelope_len,
};
use otaru_format::status::Code;
use sha2::{Digest as _, Sha256};

use super::failure::Failure;
use super::plan::Plan;
use super::stream::{CHUNK, Feeder, SharedFlash, Stop};
use crate::memory::Candidate;
use crate::slots::Region;

/// Bytes that are read and dropped rather than asked for anew with another request.
const SKIP: u32 = 8 * 1024;
/// Bad blocks that are fetched again, over a whole update.
const MAX_BAD_BLOCKS: u8 = 6;

/// Memory for release files: lend it to the agent from a `static`.
pub struct Workspace {
    file: [u8; HEADER_LEN + MAX_ENVELOPE],
    #[cfg(feature = "lzma")]
    lzma: otaru_lzma::Workspace,
}

impl Workspace {
    /// All zeros.
    pub const fn new() -> Self {
        Self {
            file: [0; HEADER_LEN + MAX_ENVELOPE],
            #[cfg(feature = "lzma")]
            lzma: otaru_lzma::Workspace::new(),
        }
    }
}

impl core::fmt::Debug for Workspace {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Workspace").finish_non_exhaustive()
    }
}

impl Default for Workspace {
    fn default() -> Self {
        Self::new()
    }
}

/// A release on its way to the slot.
pub(super) struct Release<'w> {
    /// Header and envelope.
    file: &'w mut [u8; HEADER_LEN + MAX_ENVELOPE],
    have: usize,
    unpack: Unpacker<'w>,
    course: Option<Course>,
    bad_blocks: u8,
}

/// Where the fetching stands.
struct Course {
    /// The payload that is fetched, by its place in the manifest.
    payload: usize,
    /// Where the payloads begin in the file.
    area: u32,
    /// The block that arrives.
    index: usize,
    block: Block,
    frame: Frame,
    /// Bytes of the frame that were taken.
    taken: u32,
    /// Bytes of the block that came out.
    made: u32,
    hasher: Sha256,
}

impl Course {
    /// The next byte of the file that is needed.
    const fn next_byte(&self) -> u32 {
        self.area.saturating_add(self.frame.offset).saturating_add(self.taken)
    }
}

impl<'w> Release<'w> {
    pub(super) fn new(workspace: &'w mut Workspace) -> Self {
        Self {
            file: &mut workspace.file,
            have: 0,
            #[cfg(feature = "lzma")]
            unpack: Unpacker(otaru_lzma::Decoder::new(&mut workspace.lzma, 0)),
            #[cfg(not(feature = "lzma"))]
            unpack: Unpacker(core::marker::PhantomData),
            course: None,
            bad_blocks: 0,
        }
    }

    /// Forgets everything: the file is another one.
    pub(super) fn restart(&mut self) {
        self.have = 0;
        self.course = None;
    }

    /// Bad blocks so far, and the number of the block that arrives.
    pub(super) fn damage(&self) -> (u8, usize) {
        (self.bad_blocks, self.course.as_ref().map_or(0, |course| course.index + 1))
    }

    /// Image bytes that stand in the slot or are on their way, and how many there will be.
    pub(super) fn progress(&self) -> Option<(u32, u32)> {
        let course = self.course.as_ref()?;
        let size = self.manifest()?.size;
        Some((course.block.offset.saturating_add(course.made).min(size), size))
    }

    /// What to remember of this release once its image is confirmed.
    pub(super) fn candidate(&self) -> Option<Candidate> {
        let manifest = self.manifest()?;
        Some(Candidate {
            image: manifest.image,
            sequence: manifest.sequence,
            revoked: manifest.revoked().collect(),
        })
    }

    fn envelope(&self) -> Option<Envelope<'_>> {
        Envelope::parse(self.file.get(HEADER_LEN..self.have)?).ok()
    }

    fn manifest(&self) -> Option<Manifest<'_>> {
        Manifest::parse(self.envelope()?.payload()).ok()
    }

    /// Takes the file's bytes at `offset`; what is not needed is passed over.
    pub(super) async fn take<F: ReadNorFlash>(
        &mut self,
        mut offset: u32,
        mut bytes: &[u8],
        plan: &Plan<'_>,
        feeder: &mut Feeder<'_>,
        slot: (&SharedFlash<'_, F>, Region),
    ) -> Result<(), Stop> {
        if self.course.is_none() {
            let used = self.collect(offset, bytes)?;
            offset += used as u32;
            bytes = &bytes[used..];
            if self.is_collected()? {
                self.begin(plan, feeder, slot).await?;
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
            let used = self.feed(bytes, feeder).await?;
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
    async fn begin<F: ReadNorFlash>(
        &mut self,
        plan: &Plan<'_>,
        feeder: &mut Feeder<'_>,
        (flash, region): (&SharedFlash<'_, F>, Region),
    ) -> Result<(), Stop> {
        let file: &[u8] = &*self.file;
        let envelope = Envelope::parse(&file[HEADER_LEN..self.have])?;
        let manifest = plan.admit_release(&envelope)?;
        let payload = choose(&manifest)?;
        feeder.total = Some(manifest.size);
        let good = intact_blocks(&manifest, feeder, flash, region).await?;
        if good > 0 {
            log::info!("release: {good} of {} blocks stand in the slot already", manifest.block_count());
        }
        let at = self.have as u32;
        let Some((block, frame)) = find(&manifest, payload, good) else {
            return Err(Stop::Complete);
        };
        feeder.seek(block.offset).await;
        let course =
            Course { payload, area: at, index: good, block, frame, taken: 0, made: 0, hasher: Sha256::new() };
        let wanted = course.next_byte();
        self.unpack.begin(&course);
        self.course = Some(course);
        if wanted > at.saturating_add(SKIP) { Err(Stop::Seek(wanted)) } else { Ok(()) }
    }

    /// Takes bytes of the present frame; says how many.
    async fn feed(&mut self, bytes: &[u8], feeder: &mut Feeder<'_>) -> Result<u32, Stop> {
        let Some(course) = &mut self.course else { return Ok(0) };
        let left = course.frame.len.saturating_sub(course.taken);
        let mut piece = &bytes[..bytes.len().min(left as usize)];
        let taken = piece.len() as u32;
        course.taken += taken;
        let mut sound = true;
        loop {
            let (used, out) = match self.unpack.step(course, piece) {
                Some(step) => step,
                None => {
                    sound = false;
                    break;
                }
            };
            if used == 0 && out.is_empty() {
                break;
            }
            course.made = course.made.saturating_add(out.len() as u32);
            course.hasher.update(out);
            feeder.put(out).await;
            piece = &piece[used..];
        }
        if sound && course.taken < course.frame.len {
            return Ok(taken);
        }
        let digest = Digest::from_hasher(core::mem::replace(&mut course.hasher, Sha256::new()));
        sound = sound && course.made == course.block.len && digest == course.block.hash;
        match sound && self.unpack.is_done(course) {
            true => self.next_block().map(|()| taken),
            false => Err(self.again(feeder).await),
        }
    }

    fn next_block(&mut self) -> Result<(), Stop> {
        let (payload, index) = match &self.course {
            Some(course) => (course.payload, course.index + 1),
            None => return Ok(()),
        };
        let next = self.manifest().and_then(|manifest| find(&manifest, payload, index));
        let (Some((block, frame)), Some(course)) = (next, &mut self.course) else {
            return Err(Stop::Complete);
        };
        *course = Course { index, block, frame, taken: 0, made: 0, hasher: Sha256::new(), ..*course };
        self.unpack.begin(course);
        Ok(())
    }

    /// The block is not what the manifest says: fetch it once more, a bounded number of times.
    async fn again(&mut self, feeder: &mut Feeder<'_>) -> Stop {
        let count = self.manifest().map_or(0, |manifest| manifest.block_count());
        let Some(course) = &mut self.course else { return Stop::Complete };
        self.bad_blocks += 1;
        if self.bad_blocks > MAX_BAD_BLOCKS {
            return Failure::new(
                Code::BlockCorrupt,
                format_args!(
                    "block {} of {count} is not what the release says, also when fetched again",
                    course.index + 1
                ),
            )
            .into();
        }
        log::warn!("release: block {} of {count} is bad, fetching it again", course.index + 1);
        course.taken = 0;
        course.made = 0;
        course.hasher = Sha256::new();
        self.unpack.begin(course);
        feeder.seek(course.block.offset).await;
        Stop::Seek(course.next_byte())
    }

    /// Hands the last buffer over.
    pub(super) async fn finish(&mut self, feeder: &mut Feeder<'_>) -> Result<(), Failure> {
        match self.manifest() {
            Some(manifest) => {
                feeder.finish(manifest.image).await;
                Ok(())
            }
            None => Err(Failure::new(Code::BadRelease, format_args!("the manifest is gone"))),
        }
    }
}

/// Blocks of the release that stand at the start of the slot.
async fn intact_blocks<F: ReadNorFlash>(
    manifest: &Manifest<'_>,
    feeder: &mut Feeder<'_>,
    flash: &SharedFlash<'_, F>,
    region: Region,
) -> Result<usize, Stop> {
    let mut flash = flash.lock().await;
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
                .read(region.offset + block.offset + at, &mut buffer[..words])
                .await
                .map_err(|error| Failure::new(Code::Flash, format_args!("{error:?}")))?;
            hasher.update(&buffer[..count]);
            at += count as u32;
        }
        if Digest::from_hasher(hasher) != block.hash {
            return Ok(index);
        }
    }
    Ok(manifest.block_count())
}

/// The payload to fetch: the smallest this program can read.
fn choose(manifest: &Manifest<'_>) -> Result<usize, Stop> {
    let readable = manifest.payloads().enumerate().filter(|(_, payload)| match payload.kind {
        PayloadKind::Raw => true,
        PayloadKind::Lzma => cfg!(feature = "lzma"),
        PayloadKind::Delta { .. } => false,
    });
    let best = readable.min_by_key(|(_, payload)| payload.len);
    best.map(|(index, _)| index).ok_or_else(|| {
        Failure::refusal(
            Code::BadRelease,
            format_args!(
                "the release has no payload that this firmware can read; make one with a raw payload"
            ),
        )
        .into()
    })
}

fn find(manifest: &Manifest<'_>, payload: usize, index: usize) -> Option<(Block, Frame)> {
    let frame = manifest.payloads().nth(payload)?.frame(manifest, index)?;
    Some((manifest.block(index)?, frame))
}

/// Turns a frame's bytes into a block's.
#[cfg(feature = "lzma")]
struct Unpacker<'w>(otaru_lzma::Decoder<'w>);
#[cfg(not(feature = "lzma"))]
struct Unpacker<'w>(core::marker::PhantomData<&'w ()>);

#[cfg(feature = "lzma")]
impl Unpacker<'_> {
    fn begin(&mut self, course: &Course) {
        self.0.restart(otaru_lzma::Length::Known(course.block.len));
    }

    /// Bytes used, and bytes that came out; `None` when the frame is broken.
    fn step<'s>(&'s mut self, course: &Course, piece: &'s [u8]) -> Option<(usize, &'s [u8])> {
        if course.frame.stored {
            return Some((piece.len(), piece));
        }
        let step = self.0.decode(piece).ok()?;
        Some((step.consumed, step.output))
    }

    fn is_done(&self, course: &Course) -> bool {
        course.frame.stored || self.0.is_complete()
    }
}

#[cfg(not(feature = "lzma"))]
impl Unpacker<'_> {
    fn begin(&mut self, _course: &Course) {}

    fn step<'s>(&'s mut self, _course: &Course, piece: &'s [u8]) -> Option<(usize, &'s [u8])> {
        Some((piece.len(), piece))
    }

    fn is_done(&self, _course: &Course) -> bool {
        true
    }
}
