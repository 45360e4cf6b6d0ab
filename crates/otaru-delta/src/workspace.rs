//! The decoder's memory.

/// Most bits (`lc + lp`) that select a literal's statistics.
pub(crate) const MAX_CONTEXT_BITS: u8 = 2;
/// Most bits (`pb`) that select a match's statistics.
pub(crate) const MAX_POSITION_BITS: u8 = 2;
/// Bytes of the stream's dictionary.
pub(crate) const DICTIONARY: usize = 16 * 1024;
/// Most anchors of a patch.
pub(crate) const MAX_ANCHORS: usize = 1400;

/// Memory for applying one patch at a time: less than 48 KiB, all of it here.
///
/// It can be a `static`, all zeros, and may be used for one patch after another, whatever became of the last one.
pub struct Workspace {
    pub(crate) lzma: otaru_lzma::Workspace<DICTIONARY, { 1 << MAX_CONTEXT_BITS }, { 1 << MAX_POSITION_BITS }>,
}

impl Workspace {
    /// An empty one; all zeros, so that a `static` takes no room in an image.
    pub const fn new() -> Self {
        Self { lzma: otaru_lzma::Workspace::new() }
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
