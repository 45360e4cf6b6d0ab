//! Memory for release files: what a firmware lends the agent from a `static`.

use otaru_format::release::{HEADER_LEN, MAX_ENVELOPE};

/// Memory for release files: lend it to the agent from a `static`. One that is made by a constant expression, such as a
/// `ConstStaticCell`, is best: what a function returns passes through the stack, which on a chip has no room for it.
pub struct Workspace {
    /// Header and envelope of the file.
    pub(super) file: [u8; HEADER_LEN + MAX_ENVELOPE],
    pub(super) memory: Memory,
}

/// What reading payloads needs. Patches and compressed blocks are never read at the same time, and share the LZMA
/// decoder's part of it.
pub(super) struct Memory {
    #[cfg(feature = "lzma")]
    pub(super) page: super::patch::Page,
    #[cfg(feature = "lzma")]
    pub(super) delta: otaru_delta::Workspace,
}

impl Workspace {
    /// All zeros, so that a `static` takes no room in an image.
    pub const fn new() -> Self {
        Self {
            file: [0; HEADER_LEN + MAX_ENVELOPE],
            memory: Memory {
                #[cfg(feature = "lzma")]
                page: super::patch::BLANK,
                #[cfg(feature = "lzma")]
                delta: otaru_delta::Workspace::new(),
            },
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
