//! Frames: the bytes of a payload that bring one block.

use super::cbor::Reader;
use super::manifest::Manifest;
use super::payload::{Payload, PayloadKind};

/// Bytes of a payload that bring one block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// Offset of the first byte, counted from the start of the payload area.
    pub offset: u32,
    /// Length in bytes.
    pub len: u32,
    /// Whether these are the block itself, uncompressed.
    pub stored: bool,
}

impl Payload<'_> {
    /// The frame that brings block `index` of this payload's manifest; `None` for a delta, and past the last.
    pub fn frame(&self, manifest: &Manifest<'_>, index: usize) -> Option<Frame> {
        let block = manifest.block(index)?;
        match self.kind {
            PayloadKind::Raw => {
                let offset = self.offset.checked_add(block.offset)?;
                Some(Frame { offset, len: block.len, stored: true })
            }
            PayloadKind::Lzma => {
                let mut reader = Reader::new(self.frames);
                let mut offset = self.offset;
                for _ in 0..index {
                    offset = offset.checked_add(reader.unsigned32()?)?;
                }
                let len = reader.unsigned32()?;
                Some(Frame { offset, len, stored: len == block.len })
            }
            PayloadKind::Delta { .. } => None,
        }
    }
}
