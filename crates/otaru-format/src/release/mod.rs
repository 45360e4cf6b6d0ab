//! The release file (`.otaru`): a signed manifest, then the payloads it vouches for.
//!
//! ```text
//! magic [8] | envelope length, u32 little-endian | envelope | payload area
//! ```
//!
//! The envelope is a COSE_Sign1 ([`Envelope`]) around a [`Manifest`]; both are CBOR in deterministic encoding, so
//! that one release has one encoding and every bit of it is either checked or signed. Reading copies nothing and
//! takes any bytes. Signatures are made and checked elsewhere; [`Envelope::signed_bytes`] gives what is signed.
//! `docs/release-file.md` has the layout for people and for other implementations.

mod cbor;
mod cose;
mod key_id;
mod manifest;
mod payload;
mod semver;
mod writer;

use core::fmt;

pub use cose::{Envelope, SIGNATURE_LEN, ToSign, emit_unsigned};
pub use key_id::{BadKeyId, KeyId};
pub use manifest::{Block, Blocks, Manifest, is_good_text};
pub use payload::{Frame, Payload, PayloadKind};
pub use semver::{BadVersion, SemVer};
pub use writer::{ManifestFields, PayloadFields, with_sequence};

/// How a release file begins: a byte that is no text, the name, a newline that a transfer as text would spoil, and
/// the layout's version.
pub const MAGIC: [u8; 8] = *b"\x93OTARU\n\x01";
/// Bytes before the envelope: [`MAGIC`] and the envelope's length.
pub const HEADER_LEN: usize = 12;
/// Most bytes of an envelope; a device holds all of it in RAM.
pub const MAX_ENVELOPE: usize = 4096;
/// Most blocks an image is cut into.
pub const MAX_BLOCKS: usize = 64;
/// Bytes of the smallest block: what flash erases at once.
pub const MIN_BLOCK: u32 = 65536;
/// Most payloads in one file.
pub const MAX_PAYLOADS: usize = 16;
/// Most keys one release can revoke.
pub const MAX_REVOKED: usize = 4;
/// Most further products one release can be for.
pub const MAX_ALSO: usize = 4;
/// Bytes of the longest product name or version: what an application descriptor holds.
pub const MAX_TEXT: usize = 32;
/// The highest sequence: the largest whole number that every program reads from JSON exactly (RFC 8259, section 6).
pub const MAX_SEQUENCE: u64 = (1 << 53) - 1;
/// Bytes of the dictionary LZMA frames are made with.
pub const LZMA_DICTIONARY: u32 = 16384;

/// Most bytes of a payload area: with these, every position in the file is a `u32`.
const MAX_AREA: u32 = u32::MAX - (HEADER_LEN + MAX_ENVELOPE) as u32;

/// Why bytes are no good release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReleaseError {
    /// It does not begin as a release file does.
    NotARelease,
    /// A layout or manifest format that came after this one.
    NewerLayout {
        /// Its number.
        version: u64,
    },
    /// More bytes than a device holds.
    Oversized {
        /// As many as there are, or are announced.
        len: u32,
        /// As many as there may be.
        limit: u32,
    },
    /// It ends early.
    Truncated,
    /// A part that is not as it must be.
    Malformed {
        /// Which, and how it should be.
        what: &'static str,
    },
}

impl fmt::Display for ReleaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotARelease => f.write_str("not a release file; make one with `otaru release`"),
            Self::NewerLayout { version } => {
                write!(f, "a release of layout {version}; this program knows layout 1, so update it first")
            }
            Self::Oversized { len, limit } => {
                write!(f, "the signed part has {len} bytes, {limit} are possible")
            }
            Self::Truncated => f.write_str("the release file ends early; copy or download it again"),
            Self::Malformed { what } => {
                write!(f, "the release is damaged or badly made: {what}")
            }
        }
    }
}

impl core::error::Error for ReleaseError {}

const fn malformed(what: &'static str) -> ReleaseError {
    ReleaseError::Malformed { what }
}

/// Bytes of the envelope that follows this header.
///
/// # Errors
/// When this is not the start of a release file, or its envelope is larger than a device can hold.
pub fn envelope_len(header: &[u8; HEADER_LEN]) -> Result<usize, ReleaseError> {
    const LIMIT: u32 = MAX_ENVELOPE as u32;
    let [magic @ .., a, b, c, d] = header;
    let [name @ .., version] = magic;
    if *name != MAGIC[..7] {
        return Err(ReleaseError::NotARelease);
    }
    if *version != MAGIC[7] {
        return Err(ReleaseError::NewerLayout { version: (*version).into() });
    }
    let len = u32::from_le_bytes([*a, *b, *c, *d]);
    match len {
        0 => Err(malformed("the envelope is empty")),
        1..=LIMIT => Ok(len as usize),
        _ => Err(ReleaseError::Oversized { len, limit: LIMIT }),
    }
}

/// The header before an envelope of so many bytes.
///
/// # Errors
/// When that is more than a device can hold.
pub fn header(envelope_len: usize) -> Result<[u8; HEADER_LEN], ReleaseError> {
    let len = u32::try_from(envelope_len).unwrap_or(u32::MAX);
    let mut header = [0; HEADER_LEN];
    header[..8].copy_from_slice(&MAGIC);
    header[8..].copy_from_slice(&len.to_le_bytes());
    self::envelope_len(&header)?;
    Ok(header)
}

/// The block size for an image of this size: the smallest power of two, [`MIN_BLOCK`] or more, with which there are
/// at most [`MAX_BLOCKS`] blocks.
pub const fn block_size(image_size: u32) -> u32 {
    let mut size = MIN_BLOCK;
    while image_size.div_ceil(size) > MAX_BLOCKS as u32 {
        size *= 2;
    }
    size
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_leads_back() {
        assert_eq!(envelope_len(&header(300).unwrap()), Ok(300));
        assert_eq!(header(4097), Err(ReleaseError::Oversized { len: 4097, limit: 4096 }));
        assert!(header(0).is_err());
        assert_eq!(envelope_len(b"\xe9OTARU\n\x01\x01\0\0\0"), Err(ReleaseError::NotARelease));
        assert_eq!(envelope_len(b"\x93OTARU\n\x02\x01\0\0\0"), Err(ReleaseError::NewerLayout { version: 2 }));
    }

    #[test]
    fn blocks_grow_with_the_image() {
        for (image, block) in [
            (1, 65536),
            (4 << 20, 65536),
            ((4 << 20) + 1, 131_072),
            (16 << 20, 262_144),
            (u32::MAX, 64 << 20),
        ] {
            assert_eq!(block_size(image), block, "{image}");
        }
    }
}
