//! Payloads: the forms in which a release carries its image.

use super::blocks::{Blocks, MAX_BLOCKS};
use super::cbor::{Major, Reader};
use super::error::{ReleaseError, malformed};
use crate::digest::Digest;

/// The form a payload has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PayloadKind {
    /// The image as it is.
    Raw,
    /// Each block of the image compressed on its own; see `docs/release-file.md` for LZMA's parameters.
    Lzma,
    /// A patch against another image.
    Delta {
        /// That image's digest.
        base: Digest,
    },
}

impl PayloadKind {
    /// Returns the number in a manifest. Payloads stand in a file in falling order of it.
    pub(super) const fn number(self) -> u64 {
        match self {
            Self::Raw => 0,
            Self::Lzma => 1,
            Self::Delta { .. } => 2,
        }
    }

    /// Whether the device must have another image for it.
    pub const fn needs_base(self) -> bool {
        matches!(self, Self::Delta { .. })
    }
}

/// A payload and where it is.
#[derive(Debug, Clone, Copy)]
pub struct Payload<'a> {
    /// Form.
    pub kind: PayloadKind,
    /// Offset of the first byte, counted from the start of the payload area.
    pub offset: u32,
    /// Length in bytes.
    pub len: u32,
    /// The frames' lengths, one CBOR integer after another; empty where there are no frames to tell.
    pub(super) frames: &'a [u8],
}

impl<'a> Payload<'a> {
    /// Reads one payload of a manifest's table.
    pub(super) fn read(reader: &mut Reader<'a>) -> Result<Self, ReleaseError> {
        const TABLE: ReleaseError = malformed("a payload is not {kind, offset, length, …}");
        let mut fields = reader.head(Major::Map).ok_or(TABLE)?;
        let mut number = |key| {
            fields = fields.checked_sub(1)?;
            (reader.unsigned()? == key).then_some(())?;
            reader.unsigned()
        };
        let kind = number(1).ok_or(TABLE)?;
        let offset = number(2).and_then(|offset| u32::try_from(offset).ok()).ok_or(TABLE)?;
        let len = number(3).and_then(|len| u32::try_from(len).ok()).ok_or(TABLE)?;
        let key = if fields == 1 { reader.unsigned() } else { None };
        let (kind, frames) = match (kind, fields, key) {
            (0, 0, _) => (PayloadKind::Raw, &[][..]),
            (1, 1, Some(4)) => (PayloadKind::Lzma, read_frames(reader)?),
            (2, 1, Some(5)) => {
                let base = reader.array_of().ok_or(malformed("a delta's base is no SHA-256"))?;
                (PayloadKind::Delta { base: Digest(*base) }, &[][..])
            }
            (0..=2, ..) => return Err(malformed("a payload has fields that do not fit its kind")),
            _ => return Err(malformed("a payload is of an unknown kind")),
        };
        Ok(Self { kind, offset, len, frames })
    }

    /// Returns the offset behind the last byte, counted from the start of the payload area.
    pub const fn end(&self) -> u32 {
        self.offset.saturating_add(self.len)
    }

    /// Checks the payload against the image's blocks.
    pub(super) fn check(&self, blocks: &Blocks<'_>, image: &Digest) -> Result<(), ReleaseError> {
        match self.kind {
            PayloadKind::Raw if self.len != blocks.size => {
                Err(malformed("the raw payload is not as long as the image"))
            }
            PayloadKind::Raw => Ok(()),
            PayloadKind::Lzma => self.check_frames(blocks),
            PayloadKind::Delta { base } if base == *image => Err(malformed("a delta is based on its result")),
            PayloadKind::Delta { .. } if self.len == 0 => Err(malformed("a delta is empty")),
            PayloadKind::Delta { .. } => Ok(()),
        }
    }

    fn check_frames(&self, blocks: &Blocks<'_>) -> Result<(), ReleaseError> {
        const COUNT: ReleaseError = malformed("there is not one frame a block");
        let mut reader = Reader::new(self.frames);
        let mut total: u32 = 0;
        for index in 0..blocks.count() {
            let len = reader.unsigned32().ok_or(COUNT)?;
            let room = blocks.len_of(index).ok_or(COUNT)?;
            if len == 0 || len > room {
                return Err(malformed("a frame is empty or longer than its block"));
            }
            total = total.checked_add(len).ok_or(COUNT)?;
        }
        match (reader.is_empty(), total == self.len) {
            (true, true) => Ok(()),
            (false, _) => Err(COUNT),
            (_, false) => Err(malformed("the frames are not as long as their payload")),
        }
    }
}

/// Reads an array of integers: their bytes. How many there must be is known only with the blocks.
fn read_frames<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], ReleaseError> {
    const FRAMES: ReleaseError = malformed("a payload's frames are no array of lengths");
    let count = reader.head(Major::Array).filter(|count| *count <= MAX_BLOCKS as u64).ok_or(FRAMES)?;
    reader.span(|reader| (0..count).try_for_each(|_| reader.unsigned32().map(|_| ()))).ok_or(FRAMES)
}
