//! Firmware for tests.

use otaru_format::chip::Chip;
use otaru_format::digest::Digest;
use otaru_format::image::{DescriptorFields, ImageFields};

/// Words of a sample's code.
const WORDS: u32 = 10_000;

/// An image for the ESP32-C3. Those with other seeds differ in some places and are alike in most, as versions of one program are.
pub(crate) fn image(project: &str, version: &str, seed: u32) -> Vec<u8> {
    let descriptor = DescriptorFields { project, version, secure_version: 0, elf_sha256: Digest::ZERO };
    // Few enough words that it can be compressed, in an order that is worth some bytes.
    let shuffled = |n: u32| n.wrapping_mul(n).wrapping_mul(2_654_435_761) >> 20;
    let word = |n: u32| if n.is_multiple_of(997) { n.wrapping_mul(seed) } else { shuffled(n) };
    let code: Vec<u8> = (0..WORDS).flat_map(|n| word(n).to_le_bytes()).collect();
    let segments = &[(0x3C00_0020, &[][..]), (0x4200_0020, &code)];
    ImageFields { chip: Chip::Esp32C3, descriptor, segments, hash_appended: true }.emit()
}
