//! Images for tests.

use otaru_format::chip::Chip;
use otaru_format::digest::Digest;
use otaru_format::image::{DescriptorFields, Header, seal};

/// A good image of this code.
pub(crate) fn image_of(project: &str, version: &str, code: &[u8]) -> Vec<u8> {
    let header = Header {
        segments: 2,
        spi_mode: 2,
        spi_speed_size: 0x20,
        entry: 0x4038_0000,
        chip_id: Chip::Esp32C3.id(),
        min_revision: 0,
        max_revision: 99,
        hash_appended: true,
    };
    let descriptor = DescriptorFields { project, version, elf_sha256: Digest::of(b"elf") }.emit();
    let mut image = header.emit().to_vec();
    let mut checksum = 0xEF;
    for data in [&descriptor[..], code] {
        image.extend(0x4200_0020_u32.to_le_bytes());
        image.extend((data.len() as u32).to_le_bytes());
        checksum = data.iter().fold(checksum, |sum, byte| sum ^ byte);
        image.extend(data);
    }
    image.resize(image.len() / 16 * 16 + 16 + 32, 0);
    seal(&mut image, checksum);
    image
}
