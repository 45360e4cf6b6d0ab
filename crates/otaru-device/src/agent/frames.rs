//! The blocks of a release: each comes as a frame of a payload, and is held against its hash when it is whole.

use otaru_format::digest::Digest;
use otaru_format::image::HEAD_LEN;
use otaru_format::release::{Block, Frame, Manifest, Payload, PayloadKind};
use sha2::{Digest as _, Sha256};

use super::failure::Reason;
use super::fetch::Fetch;
use super::plan::{Plan, table_bytes};
use super::stream::Feeder;
use super::unfit::Unfit;
use super::workspace::Memory;
use crate::http::Need;
use crate::platform::Platform;
use crate::text;

/// Bad blocks that are fetched again, over a whole update.
const MAX_BAD_BLOCKS: u8 = 6;

impl<P: Platform> Fetch<'_, '_, P> {
    /// Fetches the blocks from number `first` on, of the payload that has the fewest bytes for them. `payloads` is where those begin
    /// in the file.
    pub(super) async fn fetch_blocks(
        &mut self,
        manifest: &Manifest<'_>,
        first: usize,
        payloads: u32,
        memory: &mut Memory,
    ) -> Result<(), Reason> {
        let (payload, _) = smallest(manifest, first).ok_or(Reason::NoPayload)?;
        let mut unpacker = Unpacker::new(memory).ok_or(Reason::NoPayload)?;
        self.file.set_end(payloads.saturating_add(payload.end()));
        let mut follows = false;
        for (index, block) in manifest.blocks().enumerate().skip(first) {
            let frame = payload.frame(manifest, index).ok_or(Reason::NoPayload)?;
            loop {
                if !follows {
                    self.feeder.seek(block.offset).await;
                }
                self.file.seek(payloads.saturating_add(frame.offset));
                follows = self.fetch_block(&block, &frame, manifest.size, &mut unpacker).await?;
                if follows {
                    break;
                }
                self.count_bad_block(index, manifest.block_count())?;
            }
        }
        Ok(())
    }

    /// Fetches a block and hands it over; returns whether it is what the manifest says.
    async fn fetch_block(
        &mut self,
        block: &Block,
        frame: &Frame,
        size: u32,
        unpacker: &mut Unpacker<'_>,
    ) -> Result<bool, Reason> {
        unpacker.begin(block);
        let mut front = Front::default();
        let mut hasher = Sha256::new();
        let (mut taken, mut made) = (0, 0);
        while taken < frame.len {
            let count = self.file.fill(Need::More).await?.min((frame.len - taken) as usize);
            let mut piece = &self.file.piece()[..count];
            loop {
                let Some((used, out)) = unpacker.step(frame, piece) else { return Ok(false) };
                if used == 0 && out.is_empty() {
                    break;
                }
                hasher.update(out);
                let rest = match block.offset {
                    0 => front.look(made, out, self.plan, &mut self.feeder).await,
                    _ => out,
                };
                made = made.saturating_add(out.len() as u32);
                self.feeder.put(rest).await;
                piece = &piece[used..];
            }
            self.file.consume(count);
            taken += count as u32;
            if taken < frame.len {
                self.tell_progress(block.offset.saturating_add(made).min(size), size);
            }
        }
        if made != block.len || Digest::from_hasher(hasher) != block.hash || !unpacker.is_done(frame) {
            return Ok(false);
        }
        // Only now is it known that these are the release's bytes and not damage on the way.
        match front.verdict() {
            Some(unfit) => Err(unfit.into()),
            None => Ok(true),
        }
    }

    /// Notes that a block is not what the manifest says. It is asked for once more, a bounded number of times.
    fn count_bad_block(&mut self, index: usize, count: usize) -> Result<(), Reason> {
        let number = index + 1;
        self.bad_blocks += 1;
        let is_last = self.bad_blocks > MAX_BAD_BLOCKS;
        if !is_last {
            text::warn(format_args!("release: block {number} of {count} is bad, fetching it again"));
        }
        self.reports.line(format_args!("Block {number} arrived damaged."));
        self.file.close();
        if is_last { Err(Reason::Block { number: number as u32, count: count as u32 }) } else { Ok(()) }
    }
}

/// Head of the image, taken from its first block as that passes.
#[derive(Clone, Copy, Default)]
struct Front {
    /// Whether it fits, without and with a partition table at its usual place.
    unfit: [Option<Unfit>; 2],
    /// Bytes of that table's start that were found.
    table: u8,
}

impl Front {
    /// Looks at bytes of the first block that begin at its byte `at`, and hands those over that belong to the head. Returns the rest.
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

    /// Returns why the image does not fit, once all of the block was looked at.
    const fn verdict(&self) -> Option<Unfit> {
        self.unfit[(self.table == 2) as usize]
    }
}

/// Returns the payload that has the fewest bytes from block `index` on, of those that have blocks and that this program can read;
/// and how many that are.
pub(super) fn smallest<'m>(manifest: &Manifest<'m>, index: usize) -> Option<(Payload<'m>, u32)> {
    let missing = |payload: Payload<'m>| {
        let readable = match payload.kind {
            PayloadKind::Raw => true,
            PayloadKind::Lzma => cfg!(feature = "lzma"),
            PayloadKind::Delta { .. } => false,
        };
        let first = payload.frame(manifest, index).filter(|_| readable)?;
        Some((payload, payload.end().saturating_sub(first.offset)))
    };
    manifest.payloads().filter_map(missing).min_by_key(|(_, missing)| *missing)
}

/// Turns a frame's bytes into a block's.
#[cfg(feature = "lzma")]
struct Unpacker<'w>(otaru_lzma::Decoder<'w>);
#[cfg(not(feature = "lzma"))]
struct Unpacker<'w>(core::marker::PhantomData<&'w ()>);

#[cfg(feature = "lzma")]
impl<'w> Unpacker<'w> {
    fn new(memory: &'w mut Memory) -> Option<Self> {
        let (release, empty) = (otaru_lzma::Properties::RELEASE, otaru_lzma::Length::Known(0));
        otaru_lzma::Decoder::with_properties(release, memory.delta.lzma(), empty).ok().map(Self)
    }

    fn begin(&mut self, block: &Block) {
        self.0.restart(otaru_lzma::Length::Known(block.len));
    }

    /// Returns how many bytes were used, and the bytes that came out; `None` when the frame is broken.
    fn step<'s>(&'s mut self, frame: &Frame, piece: &'s [u8]) -> Option<(usize, &'s [u8])> {
        if frame.stored {
            return Some((piece.len(), piece));
        }
        let step = self.0.decode(piece).ok()?;
        Some((step.consumed, step.output))
    }

    fn is_done(&self, frame: &Frame) -> bool {
        frame.stored || self.0.is_complete()
    }
}

#[cfg(not(feature = "lzma"))]
impl<'w> Unpacker<'w> {
    fn new(_: &'w mut Memory) -> Option<Self> {
        Some(Self(core::marker::PhantomData))
    }

    fn begin(&mut self, _: &Block) {}

    fn step<'s>(&'s mut self, _: &Frame, piece: &'s [u8]) -> Option<(usize, &'s [u8])> {
        Some((piece.len(), piece))
    }

    fn is_done(&self, _: &Frame) -> bool {
        true
    }
}
