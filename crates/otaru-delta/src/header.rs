//! The first bytes of a patch.

use crate::error::HeaderError;
use crate::workspace::{MAX_ANCHORS, MAX_CONTEXT_BITS};
use otaru_format::chip::Chip;
use otaru_lzma::Properties;

/// The version of the format that is written and read here.
pub const VERSION: u8 = 1;

/// The longest image, in bytes: 64 MiB, more than a chip's flash.
pub(crate) const MAX_LEN: u32 = 64 << 20;

/// First bytes of a patch, before its version.
const MAGIC: [u8; 3] = *b"OtD";
/// The chip of a patch that predicts nothing.
const NO_CHIP: u8 = 0xFF;

/// Header of a patch, before its compressed part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The chip whose addresses are predicted; `None` if none are.
    pub chip: Option<Chip>,
    /// Properties of the compressed stream.
    pub(crate) properties: Properties,
    /// Number of anchors of the map.
    pub(crate) anchors: u16,
    /// Bytes of the old image.
    pub old_len: u32,
    /// Bytes of the new image.
    pub new_len: u32,
    /// The CRC-32 (ISO-HDLC) of the old image, for whoever has no better way to tell that it is the right one. The
    /// decoder does not look at it.
    pub old_crc: u32,
    /// The CRC-32 of the new image. The decoder does not look at it.
    pub new_crc: u32,
}

impl Header {
    /// Bytes of a header.
    pub const LEN: usize = 24;

    /// Reads a header.
    ///
    /// # Errors
    /// Returns an error if the bytes are not a patch header, or if the patch needs more memory than a
    /// [`Workspace`](crate::Workspace) has.
    pub fn parse(bytes: &[u8; Self::LEN]) -> Result<Self, HeaderError> {
        let [m0, m1, m2, version, chip, properties, a0, a1, rest @ ..] = *bytes;
        if [m0, m1, m2] != MAGIC {
            return Err(HeaderError::NotAPatch);
        }
        if version != VERSION {
            return Err(HeaderError::Version(version));
        }
        let chip = match chip {
            NO_CHIP => None,
            id => Some(Chip::from_id(id.into()).ok_or(HeaderError::Chip(id))?),
        };
        let anchors = u16::from_le_bytes([a0, a1]);
        if usize::from(anchors) > MAX_ANCHORS {
            return Err(HeaderError::Counts);
        }
        let word = |at: usize| u32::from_le_bytes([rest[at], rest[at + 1], rest[at + 2], rest[at + 3]]);
        if word(0).max(word(4)) > MAX_LEN {
            return Err(HeaderError::Lengths);
        }
        Ok(Self {
            chip,
            properties: unpack(properties).ok_or(HeaderError::Properties(properties))?,
            anchors,
            old_len: word(0),
            new_len: word(4),
            old_crc: word(8),
            new_crc: word(12),
        })
    }

    /// Writes a header.
    #[cfg(feature = "encode")]
    pub(crate) fn to_bytes(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..3].copy_from_slice(&MAGIC);
        bytes[3] = VERSION;
        bytes[4] = self.chip.map_or(NO_CHIP, |chip| chip.id() as u8);
        bytes[5] = pack(self.properties);
        bytes[6..8].copy_from_slice(&self.anchors.to_le_bytes());
        for (at, word) in [self.old_len, self.new_len, self.old_crc, self.new_crc].into_iter().enumerate() {
            bytes[8 + 4 * at..12 + 4 * at].copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }
}

/// Properties as the LZMA SDK packs them into a byte: `(pb * 5 + lp) * 9 + lc`.
#[cfg(feature = "encode")]
fn pack(properties: Properties) -> u8 {
    (properties.position_bits * 5 + properties.literal_position_bits) * 9 + properties.literal_context_bits
}

/// Properties that a workspace is large enough for.
fn unpack(byte: u8) -> Option<Properties> {
    let properties = Properties {
        literal_context_bits: byte % 9,
        literal_position_bits: byte / 9 % 5,
        position_bits: byte / 45,
    };
    let literal_bits = properties.literal_context_bits + properties.literal_position_bits;
    (literal_bits <= MAX_CONTEXT_BITS && properties.position_bits == 0).then_some(properties)
}
