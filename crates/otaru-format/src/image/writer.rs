//! Writes small images of one's own: for virtual devices, tests and fuzzers. Real ones come from espflash or esptool.

use alloc::vec::Vec;

use sha2::{Digest as _, Sha256};

use super::check::CHECKSUM_SEED;
use super::head::{DESCRIPTOR_LEN, DESCRIPTOR_MAGIC, HEADER_LEN, Header, MAGIC};
use crate::chip::Chip;
use crate::digest::Digest;

/// Entry point that such an image claims to have; nobody runs it.
const ENTRY: u32 = 0x4038_0000;
/// SPI mode DIO.
const SPI_MODE: u8 = 2;
/// 4 MB of flash at 40 MHz.
const SPI_SPEED_SIZE: u8 = 0x20;
/// Every revision below 1.0, as ESP-IDF writes it unless told otherwise.
const MAX_REVISION: u16 = 99;
/// Segments and padding end at a multiple of this, the checksum included.
const ALIGNMENT: usize = 16;

impl Header {
    /// The header's bytes.
    pub fn emit(&self) -> [u8; HEADER_LEN] {
        let mut b = [0; HEADER_LEN];
        b[..4].copy_from_slice(&[MAGIC, self.segments, self.spi_mode, self.spi_speed_size]);
        b[4..8].copy_from_slice(&self.entry.to_le_bytes());
        b[8] = 0xEE; // WP pin: not set (esptool's default).
        b[12..14].copy_from_slice(&self.chip_id.to_le_bytes());
        b[15..17].copy_from_slice(&self.min_revision.to_le_bytes());
        b[17..19].copy_from_slice(&self.max_revision.to_le_bytes());
        b[23] = u8::from(self.hash_appended);
        b
    }
}

/// A descriptor to be written. Texts longer than their field are cut.
#[derive(Debug, Clone, Copy)]
pub struct DescriptorFields<'a> {
    /// At most 31 bytes.
    pub project: &'a str,
    /// At most 31 bytes.
    pub version: &'a str,
    /// The anti-rollback version.
    pub secure_version: u32,
    /// SHA-256 of the ELF file.
    pub elf_sha256: Digest,
}

impl DescriptorFields<'_> {
    /// The descriptor's bytes.
    pub fn emit(&self) -> [u8; DESCRIPTOR_LEN] {
        let mut bytes = [0; DESCRIPTOR_LEN];
        bytes[..4].copy_from_slice(&DESCRIPTOR_MAGIC.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.secure_version.to_le_bytes());
        for (at, text) in [(16, self.version), (48, self.project), (112, "otaru")] {
            // One zero stays at the end, as C wants it.
            let len = text.len().min(31);
            bytes[at..at + len].copy_from_slice(&text.as_bytes()[..len]);
        }
        bytes[144..176].copy_from_slice(&self.elf_sha256.0);
        bytes
    }
}

/// A segment: load address and data, which is a multiple of 4 bytes.
pub type Segment<'a> = (u32, &'a [u8]);

/// An image to be written.
#[derive(Debug, Clone, Copy)]
pub struct ImageFields<'a> {
    /// The chip it is for.
    pub chip: Chip,
    /// Descriptor, which stands in front of the first segment's data.
    pub descriptor: DescriptorFields<'a>,
    /// Segments, at most 16 ([`super::MAX_SEGMENTS`]).
    pub segments: &'a [Segment<'a>],
    /// Whether a SHA-256 follows.
    pub hash_appended: bool,
}

impl ImageFields<'_> {
    /// The image's bytes. What does not keep to the fields' bounds is written all the same, and is no good image.
    pub fn emit(&self) -> Vec<u8> {
        let header = Header {
            segments: self.segments.len() as u8,
            spi_mode: SPI_MODE,
            spi_speed_size: SPI_SPEED_SIZE,
            entry: ENTRY,
            chip_id: self.chip.id(),
            min_revision: 0,
            max_revision: MAX_REVISION,
            hash_appended: self.hash_appended,
        };
        let mut image = header.emit().to_vec();
        let mut checksum = CHECKSUM_SEED;
        let descriptor = self.descriptor.emit();
        for (index, (address, data)) in self.segments.iter().enumerate() {
            let front: &[u8] = if index == 0 { &descriptor } else { &[] };
            image.extend(address.to_le_bytes());
            image.extend(((front.len() + data.len()) as u32).to_le_bytes());
            checksum = front.iter().chain(*data).fold(checksum, |sum, byte| sum ^ byte);
            image.extend(front);
            image.extend(*data);
        }
        image.resize((image.len() + 1).next_multiple_of(ALIGNMENT) - 1, 0);
        image.push(checksum);
        if self.hash_appended {
            image.extend(Sha256::digest(&image));
        }
        image
    }
}
