//! ESP application images: header, segments, checksum, appended SHA-256, application descriptor.
//!
//! Layout after ESP-IDF `esp_app_format.h` and `esp_app_desc.h`: a header of 24 bytes; segments, each with load
//! address `u32` and length `u32` before its data; zeros until the byte before a multiple of 16; the checksum, the
//! XOR of all segment data begun with 0xEF; if the header says so, the SHA-256 of everything before it. The
//! descriptor is the start of the first segment. What else may stand in such a file is told by [`mod@file`].

pub mod file;
#[cfg(any(test, feature = "image-writer"))]
mod writer;

use core::fmt;

use sha2::{Digest as _, Sha256};

use crate::chip::Chip;
use crate::digest::Digest;

#[cfg(any(test, feature = "image-writer"))]
pub use writer::{DescriptorFields, ImageFields, Segment};

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

const CHECKSUM_SEED: u8 = 0xEF;
const SHA_LEN: u32 = 32;

/// Why bytes are not a good image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ImageError {
    /// The first byte is not 0xE9.
    NotAnImage {
        /// What it is.
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
    /// When these are not the start of an image.
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

/// What an image's first [`HEAD_LEN`] bytes tell.
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
    /// When these are not the start of an image.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ImageError> {
        let header = Header::parse(bytes)?;
        let descriptor = bytes.get(HEADER_LEN + SEGMENT_HEADER_LEN..).and_then(Descriptor::parse);
        Ok(Self { header, descriptor })
    }
}

/// What a good image turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageSummary {
    /// Its header.
    pub header: Header,
    /// Its bytes, an appended SHA-256 included.
    pub len: u32,
    /// SHA-256 of those bytes: what `sha256sum firmware.bin` prints.
    pub digest: Digest,
}

/// Where a check is in the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Header,
    SegmentHeader,
    Data,
    Padding,
    Appended,
    End,
}

/// Checks an image that arrives in pieces, as ESP-IDF's bootloader checks one in flash.
#[derive(Debug, Clone)]
pub struct ImageCheck {
    at: At,
    /// Bytes still wanted in this part.
    want: u32,
    /// The part's first bytes, where they matter.
    part: [u8; 32],
    filled: usize,
    segments_left: u8,
    header: Option<Header>,
    len: u32,
    limit: u32,
    checksum: u8,
    stored_checksum: u8,
    whole: Sha256,
    appended_ok: bool,
}

impl ImageCheck {
    /// Begins with an image that may have `limit` bytes.
    pub fn new(limit: u32) -> Self {
        Self {
            at: At::Header,
            want: HEADER_LEN as u32,
            part: [0; 32],
            filled: 0,
            segments_left: 0,
            header: None,
            len: 0,
            limit,
            checksum: CHECKSUM_SEED,
            stored_checksum: 0,
            whole: Sha256::new(),
            appended_ok: true,
        }
    }

    /// Whether the image is whole; what follows it is no part of it.
    pub fn is_complete(&self) -> bool {
        self.at == At::End
    }

    /// Bytes of the image so far.
    pub const fn len(&self) -> u32 {
        self.len
    }

    /// Whether nothing of it has come yet.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Takes the next bytes. Bytes after the image's end are passed over.
    ///
    /// # Errors
    /// As soon as the image can no longer be good.
    pub fn feed(&mut self, mut bytes: &[u8]) -> Result<(), ImageError> {
        while !bytes.is_empty() && self.at != At::End {
            let count = bytes.len().min(self.want as usize);
            let (now, later) = bytes.split_at(count);
            bytes = later;
            self.take(now)?;
        }
        Ok(())
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), ImageError> {
        if self.len == 0 && bytes.first().is_some_and(|magic| *magic != MAGIC) {
            return Err(ImageError::NotAnImage { magic: bytes[0] });
        }
        match self.at {
            At::Data => self.checksum = bytes.iter().fold(self.checksum, |sum, byte| sum ^ byte),
            At::Padding => self.stored_checksum = bytes.last().copied().unwrap_or(self.stored_checksum),
            At::Appended => {
                if self.filled == 0 {
                    // Everything before this point is what the appended digest covers.
                    self.appended_ok = true;
                }
                let expected = self.part;
                let from = self.filled;
                self.appended_ok &= expected[from..from + bytes.len()] == *bytes;
                self.filled += bytes.len();
            }
            At::Header | At::SegmentHeader => {
                self.part[self.filled..self.filled + bytes.len()].copy_from_slice(bytes);
                self.filled += bytes.len();
            }
            At::End => {}
        }
        self.whole.update(bytes);
        self.len += bytes.len() as u32;
        self.want -= bytes.len() as u32;
        if self.want == 0 { self.advance() } else { Ok(()) }
    }

    /// A part is whole: what comes next? Empty parts are passed at once.
    fn advance(&mut self) -> Result<(), ImageError> {
        match self.at {
            At::Header => {
                let header = Header::parse(&self.part[..HEADER_LEN])?;
                self.segments_left = header.segments;
                self.header = Some(header);
                self.enter(At::SegmentHeader, SEGMENT_HEADER_LEN as u32)
            }
            At::SegmentHeader => {
                let len = u32::from_le_bytes([self.part[4], self.part[5], self.part[6], self.part[7]]);
                if !len.is_multiple_of(4) {
                    return Err(ImageError::BadSegmentLength(len));
                }
                self.segments_left -= 1;
                self.enter(At::Data, len)?;
                if len == 0 { self.advance() } else { Ok(()) }
            }
            At::Data if self.segments_left > 0 => self.enter(At::SegmentHeader, SEGMENT_HEADER_LEN as u32),
            At::Data => self.enter(At::Padding, 16 - self.len % 16),
            At::Padding => {
                if self.stored_checksum != self.checksum {
                    return Err(ImageError::Checksum {
                        expected: self.checksum,
                        found: self.stored_checksum,
                    });
                }
                if self.header.is_some_and(|header| header.hash_appended) {
                    self.part = self.whole.clone().finalize().into();
                    self.enter(At::Appended, SHA_LEN)
                } else {
                    self.enter(At::End, 0)
                }
            }
            At::Appended if self.appended_ok => self.enter(At::End, 0),
            At::Appended => Err(ImageError::Digest),
            At::End => Ok(()),
        }
    }

    fn enter(&mut self, at: At, want: u32) -> Result<(), ImageError> {
        self.at = at;
        self.want = want;
        self.filled = 0;
        match self.len.checked_add(want) {
            Some(end) if end <= self.limit => Ok(()),
            _ => Err(ImageError::TooLarge { limit: self.limit }),
        }
    }

    /// What the image is, once it is whole.
    ///
    /// # Errors
    /// [`ImageError::Truncated`] when it is not.
    pub fn finish(self) -> Result<ImageSummary, ImageError> {
        match self.header.filter(|_| self.at == At::End) {
            Some(header) => {
                Ok(ImageSummary { header, len: self.len, digest: Digest::from_hasher(self.whole) })
            }
            None => Err(ImageError::Truncated { len: self.len }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn image() -> Vec<u8> {
        let descriptor = DescriptorFields {
            project: "p",
            version: "1.2.3",
            secure_version: 7,
            elf_sha256: Digest::of(b"elf"),
        };
        let segments = &[(0x3C00_0020, &[][..]), (0x4038_0000, &[7; 104])];
        ImageFields { chip: Chip::Esp32C3, descriptor, segments, hash_appended: true }.emit()
    }

    fn check(bytes: &[u8], step: usize) -> Result<ImageSummary, ImageError> {
        let mut check = ImageCheck::new(4096);
        bytes.chunks(step).try_for_each(|piece| check.feed(piece))?;
        check.finish()
    }

    #[test]
    fn a_good_image_is_good_in_any_pieces() {
        let image = image();
        for step in [1, 7, 16, 4096] {
            let summary = check(&image, step).unwrap();
            assert_eq!((summary.len as usize, summary.digest), (image.len(), Digest::of(&image)));
        }
        let head = Head::parse(&image).unwrap();
        let descriptor = head.descriptor.unwrap();
        assert_eq!((descriptor.project(), descriptor.version()), ("p", "1.2.3"));
        assert_eq!(descriptor.secure_version(), 7);
        assert_eq!(descriptor.elf_sha256(), Digest::of(b"elf"));
        assert_eq!(head.header.chip(), Some(Chip::Esp32C3));
    }

    #[test]
    fn a_name_that_cannot_be_read_is_none() {
        let good = image();
        let name = |field: &[u8]| {
            let mut image = good.clone();
            image[80..112].fill(0);
            image[80..80 + field.len()].copy_from_slice(field);
            Head::parse(&image).unwrap().descriptor.unwrap().product().map(std::string::String::from)
        };
        assert_eq!(name(b"lamp").as_deref(), Some("lamp"));
        assert_eq!(name(&[b'x'; 32]).as_deref(), Some("x".repeat(32).as_str()));
        for bad in [&b""[..], b"la\xFFmp", b"la\nmp", &[0xFF; 32]] {
            assert_eq!(name(bad), None, "{bad:?}");
        }
    }

    /// ESP-IDF `esp_app_format.h`, and `bootloader_common_check_chip_validity`.
    #[test]
    fn revisions_and_flash_sizes_are_read_as_the_bootloader_does() {
        let header = |min_revision, max_revision, spi_speed_size| Header {
            min_revision,
            max_revision,
            spi_speed_size,
            ..Header::parse(&image()).unwrap()
        };
        for (min, max, revision, admitted) in [
            (3, 99, 3, true),
            (3, 99, 2, false),
            (0, 99, 99, true),
            (0, 99, 100, false),
            (0, 0, 400, true),
            (0, 65535, 400, true),
            (300, 0, 299, false),
        ] {
            assert_eq!(header(min, max, 0).admits_revision(revision), admitted, "{min} to {max}: {revision}");
        }
        assert_eq!(header(0, 0, 0x0F).flash_size(), Some(1 << 20));
        assert_eq!(header(0, 0, 0x20).flash_size(), Some(4 << 20));
        assert_eq!(header(0, 0, 0x7F).flash_size(), Some(128 << 20));
        assert_eq!(header(0, 0, 0x80).flash_size(), None);
    }

    #[test]
    fn every_changed_byte_is_found() {
        let good = image();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            assert!(check(&bad, 64).is_err(), "byte {at}");
        }
    }

    #[test]
    fn what_the_bootloader_refuses_is_refused() {
        let mut odd_flag = image();
        odd_flag[23] = 3;
        assert_eq!(check(&odd_flag, 64), Err(ImageError::BadHashFlag(3)));
        let mut odd_segment = image();
        odd_segment[HEADER_LEN + 4] += 2;
        assert_eq!(check(&odd_segment, 64), Err(ImageError::BadSegmentLength(258)));
    }

    #[test]
    fn every_truncation_is_found() {
        let good = image();
        for len in 0..good.len() {
            assert!(check(&good[..len], 64).is_err(), "{len} bytes");
        }
    }

    #[test]
    fn html_is_not_an_image() {
        let error = check(b"<html>", 6).unwrap_err();
        assert_eq!(error, ImageError::NotAnImage { magic: b'<' });
        assert!(std::format!("{error}").contains("web page"));
    }
}
