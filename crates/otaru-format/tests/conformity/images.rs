//! Small images to show to other tools.

use otaru_format::chip::Chip;
use otaru_format::digest::Digest;
use otaru_format::image::{DescriptorFields, Header, seal};

/// Load address and data of a segment.
pub(crate) type Segment = (u32, Vec<u8>);

/// An image to be made.
#[derive(Debug, Clone)]
pub(crate) struct Image {
    pub(crate) chip: Chip,
    pub(crate) project: &'static str,
    pub(crate) version: &'static str,
    pub(crate) segments: Vec<Segment>,
    pub(crate) hash_appended: bool,
}

impl Image {
    /// An image whose segments lie in flash and RAM as a linker puts them.
    pub(crate) fn new(chip: Chip) -> Self {
        let (rodata, ram) = match chip {
            Chip::Esp32 => (0x3F40_0020, 0x4008_0000),
            Chip::Esp32S2 => (0x3F00_0020, 0x4002_2000),
            Chip::Esp32S3 => (0x3C00_0020, 0x4037_4000),
            Chip::Esp32P4 => (0x4000_0020, 0x4FF0_0000),
            Chip::Esp32C6 | Chip::Esp32H2 | Chip::Esp32C5 | Chip::Esp32C61 => (0x4200_0020, 0x4080_0000),
            _ => (0x3C00_0020, 0x4038_0000),
        };
        let code = (0..1000_u32).flat_map(|word| (word.wrapping_mul(0x9E37_79B9)).to_le_bytes()).collect();
        Self {
            chip,
            project: "conformity",
            version: "1.2.3-rc.4+build",
            segments: vec![(rodata, vec![0x5A; 64]), (ram, code)],
            hash_appended: true,
        }
    }

    /// The digest that stands for the ELF file's.
    pub(crate) fn elf(&self) -> Digest {
        Digest::of(self.project.as_bytes())
    }

    /// All segments, the first with the descriptor in front.
    pub(crate) fn all_segments(&self) -> Vec<Segment> {
        let fields =
            DescriptorFields { project: self.project, version: self.version, elf_sha256: self.elf() };
        let mut segments = self.segments.clone();
        segments[0].1.splice(0..0, fields.emit());
        segments
    }

    /// Its bytes.
    pub(crate) fn build(&self) -> Vec<u8> {
        let segments = self.all_segments();
        let header = Header {
            segments: segments.len() as u8,
            spi_mode: 2,
            spi_speed_size: 0x20,
            entry: segments[1].0,
            chip_id: self.chip.id(),
            min_revision: 0,
            max_revision: 399,
            hash_appended: self.hash_appended,
        };
        let mut bytes = header.emit().to_vec();
        let mut checksum = 0xEF;
        for (address, data) in &segments {
            bytes.extend(address.to_le_bytes());
            bytes.extend((data.len() as u32).to_le_bytes());
            checksum = data.iter().fold(checksum, |sum, byte| sum ^ byte);
            bytes.extend(data);
        }
        bytes.resize(bytes.len() / 16 * 16 + 16, 0);
        if self.hash_appended {
            bytes.resize(bytes.len() + 32, 0);
            seal(&mut bytes, checksum);
        } else if let Some(last) = bytes.last_mut() {
            *last = checksum;
        }
        bytes
    }
}
