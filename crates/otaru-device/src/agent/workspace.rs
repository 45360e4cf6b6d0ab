//! Memory for release files: what a firmware lends the agent from a `static`.

use otaru_format::release::{HEADER_LEN, MAX_ENVELOPE};

/// Memory for release files: lend it to the agent from a `static`.
pub struct Workspace {
    /// Header and envelope of the file.
    pub(super) file: [u8; HEADER_LEN + MAX_ENVELOPE],
    pub(super) memory: Memory,
}

/// What the payload needs that is being read. There is one at a time, so all share the same place.
#[cfg_attr(feature = "lzma", expect(clippy::large_enum_variant, reason = "it is a place, and never moved"))]
pub(super) enum Memory {
    #[cfg(feature = "lzma")]
    Frames(otaru_lzma::Workspace),
    #[cfg(feature = "lzma")]
    Patch(super::patch::PatchMemory),
    #[cfg(not(feature = "lzma"))]
    Nothing,
}

#[cfg(feature = "lzma")]
impl Memory {
    /// Makes it the memory for compressed blocks.
    #[inline(never)]
    pub(super) fn frames(&mut self) -> Option<&mut otaru_lzma::Workspace> {
        // A constant is written to its place; what a function returns passes through the stack, which has no room for it.
        const EMPTY: otaru_lzma::Workspace = otaru_lzma::Workspace::new();
        if !matches!(self, Self::Frames(_)) {
            *self = Self::Frames(EMPTY);
        }
        if let Self::Frames(memory) = self { Some(memory) } else { None }
    }

    /// Makes it the memory for a patch.
    #[inline(never)]
    pub(super) fn patch(&mut self) -> Option<&mut super::patch::PatchMemory> {
        const EMPTY: super::patch::PatchMemory = super::patch::PatchMemory::new();
        if !matches!(self, Self::Patch(_)) {
            *self = Self::Patch(EMPTY);
        }
        if let Self::Patch(memory) = self { Some(memory) } else { None }
    }
}

impl Workspace {
    /// All zeros.
    pub const fn new() -> Self {
        Self {
            file: [0; HEADER_LEN + MAX_ENVELOPE],
            #[cfg(feature = "lzma")]
            memory: Memory::Frames(otaru_lzma::Workspace::new()),
            #[cfg(not(feature = "lzma"))]
            memory: Memory::Nothing,
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
