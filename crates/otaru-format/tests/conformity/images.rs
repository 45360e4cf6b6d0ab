//! Small images to show to other tools.

use otaru_format::chip::Chip;
use otaru_format::digest::Digest;
use otaru_format::image::{DescriptorFields, ImageFields};

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

    fn descriptor(&self) -> DescriptorFields<'_> {
        DescriptorFields {
            project: self.project,
            version: self.version,
            secure_version: 0,
            elf_sha256: self.elf(),
        }
    }

    /// All segments, the first with the descriptor in front.
    pub(crate) fn all_segments(&self) -> Vec<Segment> {
        let mut segments = self.segments.clone();
        segments[0].1.splice(0..0, self.descriptor().emit());
        segments
    }

    /// Builds the bytes.
    pub(crate) fn build(&self) -> Vec<u8> {
        let segments: Vec<_> =
            self.segments.iter().map(|(address, data)| (*address, data.as_slice())).collect();
        let (chip, hash_appended) = (self.chip, self.hash_appended);
        ImageFields { chip, descriptor: self.descriptor(), segments: &segments, hash_appended }.emit()
    }
}
