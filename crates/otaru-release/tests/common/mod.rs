//! Images for tests.

use otaru_format::chip::Chip;
use otaru_format::digest::Digest;
use otaru_format::image::{DescriptorFields, ImageFields};

/// A good image of this code.
pub(crate) fn image_of(project: &str, version: &str, code: &[u8]) -> Vec<u8> {
    let descriptor = DescriptorFields { project, version, secure_version: 0, elf_sha256: Digest::of(b"elf") };
    let segments = &[(0x4200_0020, &[][..]), (0x4200_0020, code)];
    ImageFields { chip: Chip::Esp32C3, descriptor, segments, hash_appended: true }.emit()
}
