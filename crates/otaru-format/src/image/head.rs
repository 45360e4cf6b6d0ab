//! The start of an image: header and application descriptor, and what can be wrong with an image.

use core::fmt;

use crate::chip::Chip;
use crate::digest::Digest;

/// First byte of an image.
pub const MAGIC: u8 = 0xE9;
/// Bytes of the header.
pub const HEADER_LEN: usize = 24;
/// Bytes before each segment's data.
pub const SEGMENT_HEADER_LEN: usize = 8;
/// Bytes of the application descriptor.
pub const DESCRIPTOR_LEN: usize = 256;
/// Bytes that hold header and descriptor.
pub const HEAD_LEN: usize = HEADER_LEN + SEGMENT_HEADER_LEN + DESCRIPTOR_LEN;
/// Most segments an image may have (`ESP_IMAGE_MAX_SEGMENTS`).
pub const MAX_SEGMENTS: u8 = 16;
/// First word of a descriptor (`ESP_APP_DESC_MAGIC_WORD`).
pub const DESCRIPTOR_MAGIC: u32 = 0xABCD_5432;

/// Why bytes are not a good image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum ImageError {
    /// The first byte is not 0xE9.
    NotAnImage {
        /// The byte found.
        magic: u8,
    },
    /// Too few bytes to tell.
    TooShort,
    /// The image ends early.
    Truncated {
        /// Bytes that came.
        len: u32,
    },
    /// The header names none, or more than [`MAX_SEGMENTS`].
    BadSegmentCount(u8),
    /// The header's last byte is neither 0 nor 1: bootloader and tools would disagree whether a hash follows.
    BadHashFlag(u8),
    /// A segment's length is no multiple of 4; the bootloader refuses it.
    BadSegmentLength(u32),
    /// The segments are longer than the space there is.
    TooLarge {
        /// That space, in bytes.
        limit: u32,
    },
    /// The checksum is wrong.
    Checksum {
        /// As computed.
        expected: u8,
        /// As stored.
        found: u8,
    },
    /// The appended SHA-256 is wrong.
    Digest,
}

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAnImage { magic: b'<' } => {
                f.write_str("it is a web page, such as a directory listing or an error page, not firmware")
            }
            Self::NotAnImage { magic } => write!(f, "it begins with 0x{magic:02x}, an ESP image with 0xe9"),
            Self::TooShort => f.write_str("too short for an ESP image"),
            Self::Truncated { len } => write!(f, "the image ends early, after {len} bytes"),
            Self::BadSegmentCount(count) => {
                write!(f, "the header names {count} segments, 1 to 16 are possible")
            }
            Self::BadHashFlag(flag) => write!(f, "the header's hash flag is {flag}, 0 or 1 are possible"),
            Self::BadSegmentLength(len) => write!(f, "a segment has {len} bytes, which is no multiple of 4"),
            Self::TooLarge { limit } => write!(f, "the image is larger than {limit} bytes"),
            Self::Checksum { expected, found } => {
                write!(f, "the checksum is 0x{found:02x} but should be 0x{expected:02x}")
            }
            Self::Digest => f.write_str("the image's SHA-256 does not fit its bytes"),
        }
    }
}

impl core::error::Error for ImageError {}

/// The image header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Number of segments.
    pub segments: u8,
    /// SPI mode for the ROM loader.
    pub spi_mode: u8,
    /// SPI clock in the low, flash size in the high four bits.
    pub spi_speed_size: u8,
    /// Address of the first instruction.
    pub entry: u32,
    /// Chip id; see [`Header::chip`].
    pub chip_id: u16,
    /// Lowest chip revision it runs on, ×100.
    pub min_revision: u16,
    /// Highest chip revision it runs on, ×100.
    pub max_revision: u16,
    /// Whether a SHA-256 follows the image.
    pub hash_appended: bool,
}

/// Bytes of flash that the lowest flash size of a header stands for.
const LEAST_FLASH: u32 = 1 << 20;
/// Highest flash size that has a meaning (`ESP_IMAGE_FLASH_SIZE_128MB`).
const MAX_FLASH: u8 = 7;

impl Header {
    /// Reads the first 24 bytes.
    ///
    /// # Errors
    /// Returns an error if there are fewer than 24 bytes, or they are not the header of an image.
    pub fn parse(bytes: &[u8]) -> Result<Self, ImageError> {
        match bytes.first() {
            Some(&MAGIC) => {}
            Some(&magic) => return Err(ImageError::NotAnImage { magic }),
            None => return Err(ImageError::TooShort),
        }
        let b: &[u8; HEADER_LEN] = bytes.first_chunk().ok_or(ImageError::TooShort)?;
        if b[1] == 0 || b[1] > MAX_SEGMENTS {
            return Err(ImageError::BadSegmentCount(b[1]));
        }
        // ESP-IDF's bootloader takes any value but 0 as yes, esptool takes 0 and 1 only.
        if b[23] > 1 {
            return Err(ImageError::BadHashFlag(b[23]));
        }
        Ok(Self {
            segments: b[1],
            spi_mode: b[2],
            spi_speed_size: b[3],
            entry: u32::from_le_bytes([b[4], b[5], b[6], b[7]]),
            chip_id: u16::from_le_bytes([b[12], b[13]]),
            min_revision: u16::from_le_bytes([b[15], b[16]]),
            max_revision: u16::from_le_bytes([b[17], b[18]]),
            hash_appended: b[23] == 1,
        })
    }

    /// The chip it is for, if known.
    pub fn chip(&self) -> Option<Chip> {
        Chip::from_id(self.chip_id)
    }

    /// Bytes of the flash chip it was made for; `None` for a size that no chip has.
    pub const fn flash_size(&self) -> Option<u32> {
        match self.spi_speed_size >> 4 {
            size @ 0..=MAX_FLASH => Some(LEAST_FLASH << size),
            _ => None,
        }
    }

    /// Returns the highest chip revision, ×100, if there is one: 0 and 65535 mean that there is none.
    pub const fn highest_revision(&self) -> Option<u16> {
        match self.max_revision {
            0 | u16::MAX => None,
            revision => Some(revision),
        }
    }

    /// Whether it runs on a chip of this revision, ×100, as ESP-IDF's bootloader decides it.
    pub fn admits_revision(&self, revision: u16) -> bool {
        revision >= self.min_revision && self.highest_revision().is_none_or(|highest| revision <= highest)
    }
}

/// The application descriptor, read in place.
#[derive(Debug, Clone, Copy)]
pub struct Descriptor<'a>(&'a [u8; DESCRIPTOR_LEN]);

impl<'a> Descriptor<'a> {
    /// Reads a descriptor; `None` when there is none.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let bytes: &[u8; DESCRIPTOR_LEN] = bytes.first_chunk()?;
        (bytes[..4] == DESCRIPTOR_MAGIC.to_le_bytes()).then_some(Self(bytes))
    }

    fn text(&self, at: usize, len: usize) -> &'a str {
        let field = &self.0[at..at + len];
        let field = &field[..field.iter().position(|b| *b == 0).unwrap_or(len)];
        match core::str::from_utf8(field) {
            Ok(text) => text,
            // What is readable before the first bad byte.
            Err(error) => core::str::from_utf8(&field[..error.valid_up_to()]).unwrap_or(""),
        }
    }

    /// The anti-rollback version.
    pub fn secure_version(&self) -> u32 {
        u32::from_le_bytes([self.0[4], self.0[5], self.0[6], self.0[7]])
    }

    /// The version, at most 32 bytes.
    pub fn version(&self) -> &'a str {
        self.text(16, 32)
    }

    /// The project's name, at most 32 bytes.
    pub fn project(&self) -> &'a str {
        self.text(48, 32)
    }

    /// The project's name, if it is one that can be read: 1 to 32 bytes of UTF-8 without control characters.
    pub fn product(&self) -> Option<&'a str> {
        let field = &self.0[48..80];
        let name = field.split(|byte| *byte == 0).next()?;
        let name = core::str::from_utf8(name).ok()?;
        (!name.is_empty() && !name.chars().any(char::is_control)).then_some(name)
    }

    /// Time of the build.
    pub fn time(&self) -> &'a str {
        self.text(80, 16)
    }

    /// Date of the build.
    pub fn date(&self) -> &'a str {
        self.text(96, 16)
    }

    /// Version of ESP-IDF, or what stands for it.
    pub fn idf_version(&self) -> &'a str {
        self.text(112, 32)
    }

    /// SHA-256 of the ELF file the image was made from; zero where the tool did not fill it in.
    pub fn elf_sha256(&self) -> Digest {
        let mut digest = Digest::ZERO;
        digest.0.copy_from_slice(&self.0[144..176]);
        digest
    }
}

/// Header and descriptor, read from an image's first [`HEAD_LEN`] bytes.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    /// The header.
    pub header: Header,
    /// The descriptor; very old or foreign images have none.
    pub descriptor: Option<Descriptor<'a>>,
}

impl<'a> Head<'a> {
    /// Reads the head.
    ///
    /// # Errors
    /// Returns an error if `bytes` does not begin with the header of an image.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ImageError> {
        let header = Header::parse(bytes)?;
        let descriptor = bytes.get(HEADER_LEN + SEGMENT_HEADER_LEN..).and_then(Descriptor::parse);
        Ok(Self { header, descriptor })
    }
}
