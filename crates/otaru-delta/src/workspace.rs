//! The decoder's memory.

use crate::anchors::Anchor;
use crate::images;
use crate::input;
use crate::predict::Memory;
use crate::segments::Segments;

/// Most bits (`lc + lp`) that select a literal's statistics. More, and any that select a match's (`pb`), gain less than
/// half a per cent.
pub(crate) const MAX_CONTEXT_BITS: u8 = 1;
/// Bytes of the stream's dictionary.
pub(crate) const DICTIONARY: usize = 16 * 1024;
/// Most anchors of a patch.
pub(crate) const MAX_ANCHORS: usize = 1300;

/// Part of a [`Workspace`] that the compressed stream needs.
pub type Lzma = otaru_lzma::Workspace<DICTIONARY, { 1 << MAX_CONTEXT_BITS }, 1>;

/// Memory for applying one patch at a time: less than 48 KiB, all of it here but for the future of
/// [`apply`](crate::apply) itself.
///
/// It can be a `static`, and may be used for one patch after another, whatever became of the last one.
pub struct Workspace {
    pub(crate) lzma: Lzma,
    pub(crate) input: input::Buffers,
    pub(crate) images: images::Buffers,
    pub(crate) old: Segments,
    pub(crate) new: Segments,
    pub(crate) anchors: [Anchor; MAX_ANCHORS],
    pub(crate) by_old: [u16; MAX_ANCHORS],
    pub(crate) memory: Memory,
}

impl Workspace {
    /// An empty one; all zeros, so that a `static` takes no room in an image.
    pub const fn new() -> Self {
        Self {
            lzma: otaru_lzma::Workspace::new(),
            input: input::Buffers::new(),
            images: images::Buffers::new(),
            old: Segments::EMPTY,
            new: Segments::EMPTY,
            anchors: [Anchor::ZERO; MAX_ANCHORS],
            by_old: [0; MAX_ANCHORS],
            memory: Memory::new(),
        }
    }

    /// Lends a part of it to other LZMA streams while no patch is applied: it is enough for those of release files.
    pub const fn lzma(&mut self) -> &mut Lzma {
        &mut self.lzma
    }
}

const _: () = assert!(size_of::<Workspace>() <= 48 * 1024, "it must fit beside everything else on a chip");

impl Default for Workspace {
    fn default() -> Self {
        Self::new()
    }
}

impl core::fmt::Debug for Workspace {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Workspace").finish_non_exhaustive()
    }
}
