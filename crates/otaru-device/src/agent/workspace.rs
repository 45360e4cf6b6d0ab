//! The agent's buffers: what a firmware lends it from a `static`.
//!
//! A buffer in a future is moved with it, through the stack, each time an outer future takes it up; so whatever is larger
//! than a few hundred bytes stands here.

use crate::http::BUFFER;
use otaru_format::release::{HEADER_LEN, MAX_ENVELOPE};

use super::stream::Pipe;
use crate::slots::READ_BACK;

/// The agent's buffers: lend them from a `static`. One that is made by a constant expression, such as a
/// `ConstStaticCell`, is best: what a function returns passes through the stack, which on a chip has no room for it.
pub struct Workspace {
    pub(super) release: ReleaseMemory,
    /// Between network and flash.
    pub(super) pipe: Pipe,
    /// Between socket and parser.
    pub(super) http: [u8; BUFFER],
}

/// Memory for release files.
pub(super) struct ReleaseMemory {
    /// Header and envelope of the file.
    pub(super) file: [u8; HEADER_LEN + MAX_ENVELOPE],
    pub(super) memory: Memory,
}

/// Memory for reading payloads. Patches and compressed blocks are never read at the same time, and share the LZMA
/// decoder's part of it.
pub(super) struct Memory {
    #[cfg(feature = "lzma")]
    pub(super) page: super::page::Page,
    #[cfg(feature = "lzma")]
    pub(super) delta: otaru_delta::Workspace,
}

impl Workspace {
    /// Returns an unused one, all zeros, so that a `static` takes no room in an image.
    pub const fn new() -> Self {
        Self {
            release: ReleaseMemory {
                file: [0; HEADER_LEN + MAX_ENVELOPE],
                memory: Memory {
                    #[cfg(feature = "lzma")]
                    page: super::page::BLANK,
                    #[cfg(feature = "lzma")]
                    delta: otaru_delta::Workspace::new(),
                },
            },
            pipe: Pipe::new(),
            http: [0; BUFFER],
        }
    }

    /// Returns the buffer for reading a slot back. It is the one for a release's envelope, which is wanted only while
    /// something is fetched.
    pub(super) const fn read_back(&mut self) -> &mut [u8; READ_BACK] {
        const { assert!(READ_BACK <= HEADER_LEN + MAX_ENVELOPE) };
        match self.release.file.first_chunk_mut() {
            Some(buf) => buf,
            None => unreachable!(),
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
