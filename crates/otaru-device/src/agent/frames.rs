//! The blocks of a release as they arrive: frames of a payload, each of which becomes one block of the image, held against its hash.

use otaru_format::digest::Digest;
use otaru_format::release::{Block, Frame, Manifest, Payload, PayloadKind};
use sha2::{Digest as _, Sha256};

use super::workspace::Memory;

/// Where the fetching of blocks stands.
pub(super) struct Frames {
    /// The payload that is fetched, by its place in the manifest.
    payload: usize,
    /// Where the payloads begin in the file.
    area: u32,
    /// The block that arrives.
    pub(super) index: usize,
    pub(super) block: Block,
    frame: Frame,
    /// Bytes of the frame that were taken.
    taken: u32,
    /// Bytes of the block that came out.
    pub(super) made: u32,
    hasher: Sha256,
}

impl Frames {
    /// Before the first byte of block `index`, whose payload is at place `payload` of the manifest; `None` when there is no such
    /// block. `area` is where the payloads begin in the file.
    pub(super) fn at(manifest: &Manifest<'_>, payload: usize, index: usize, area: u32) -> Option<Self> {
        let (block, frame) = find(manifest, payload, index)?;
        Some(Self { payload, area, index, block, frame, taken: 0, made: 0, hasher: Sha256::new() })
    }

    /// The next byte of the file that is needed.
    pub(super) const fn next_byte(&self) -> u32 {
        self.area.saturating_add(self.frame.offset).saturating_add(self.taken)
    }

    /// Goes on to the block after this one; says whether there is one.
    pub(super) fn advance(&mut self, manifest: &Manifest<'_>) -> bool {
        match Self::at(manifest, self.payload, self.index + 1, self.area) {
            Some(next) => *self = next,
            None => return false,
        }
        true
    }

    /// Begins the block anew.
    pub(super) fn restart(&mut self) {
        self.taken = 0;
        self.made = 0;
        self.hasher = Sha256::new();
    }

    /// The bytes that are of this frame; they count as taken.
    pub(super) fn accept<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        let left = self.frame.len.saturating_sub(self.taken);
        let piece = &bytes[..bytes.len().min(left as usize)];
        self.taken += piece.len() as u32;
        piece
    }

    /// Bytes of the block came out.
    pub(super) fn count(&mut self, out: &[u8]) {
        self.made = self.made.saturating_add(out.len() as u32);
        self.hasher.update(out);
    }

    /// What has become of the block, now that all that was accepted came out.
    pub(super) fn arrival(&mut self, unpack: &Unpacker<'_>) -> Arrival {
        if self.taken < self.frame.len {
            return Arrival::Partial;
        }
        let digest = Digest::from_hasher(core::mem::replace(&mut self.hasher, Sha256::new()));
        let good = self.made == self.block.len && digest == self.block.hash && unpack.is_done(self);
        if good { Arrival::Good } else { Arrival::Bad }
    }
}

/// What has become of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arrival {
    /// Bytes of it are missing.
    Partial,
    /// It is whole, and what the manifest says.
    Good,
    /// It is not what the manifest says.
    Bad,
}

/// The payload that has the fewest bytes from block `index` on, of those that have blocks and that this program can read;
/// and how many that are.
pub(super) fn smallest(manifest: &Manifest<'_>, index: usize) -> Option<(usize, u32)> {
    let missing = |(at, payload): (usize, Payload<'_>)| {
        let readable = match payload.kind {
            PayloadKind::Raw => true,
            PayloadKind::Lzma => cfg!(feature = "lzma"),
            PayloadKind::Delta { .. } => false,
        };
        let first = payload.frame(manifest, index).filter(|_| readable)?;
        Some((at, payload.offset.saturating_add(payload.len).saturating_sub(first.offset)))
    };
    manifest.payloads().enumerate().filter_map(missing).min_by_key(|(_, missing)| *missing)
}

fn find(manifest: &Manifest<'_>, payload: usize, index: usize) -> Option<(Block, Frame)> {
    let frame = manifest.payloads().nth(payload)?.frame(manifest, index)?;
    Some((manifest.block(index)?, frame))
}

/// Turns a frame's bytes into a block's.
#[cfg(feature = "lzma")]
pub(super) struct Unpacker<'w>(otaru_lzma::Decoder<'w>);
#[cfg(not(feature = "lzma"))]
pub(super) struct Unpacker<'w>(core::marker::PhantomData<&'w ()>);

#[cfg(feature = "lzma")]
impl<'w> Unpacker<'w> {
    pub(super) fn new(memory: &'w mut Memory) -> Option<Self> {
        let (release, empty) = (otaru_lzma::Properties::RELEASE, otaru_lzma::Length::Known(0));
        otaru_lzma::Decoder::with_properties(release, memory.delta.lzma(), empty).ok().map(Self)
    }

    pub(super) fn begin(&mut self, frames: &Frames) {
        self.0.restart(otaru_lzma::Length::Known(frames.block.len));
    }

    /// Bytes used, and bytes that came out; `None` when the frame is broken.
    pub(super) fn step<'s>(&'s mut self, frames: &Frames, piece: &'s [u8]) -> Option<(usize, &'s [u8])> {
        if frames.frame.stored {
            return Some((piece.len(), piece));
        }
        let step = self.0.decode(piece).ok()?;
        Some((step.consumed, step.output))
    }

    fn is_done(&self, frames: &Frames) -> bool {
        frames.frame.stored || self.0.is_complete()
    }
}

#[cfg(not(feature = "lzma"))]
impl<'w> Unpacker<'w> {
    pub(super) fn new(_: &'w mut Memory) -> Option<Self> {
        Some(Self(core::marker::PhantomData))
    }

    pub(super) fn begin(&mut self, _: &Frames) {}

    pub(super) fn step<'s>(&'s mut self, _: &Frames, piece: &'s [u8]) -> Option<(usize, &'s [u8])> {
        Some((piece.len(), piece))
    }

    fn is_done(&self, _: &Frames) -> bool {
        true
    }
}
