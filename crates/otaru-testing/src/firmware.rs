//! Firmware: made here, and real where `OTARU_FIRMWARE_PAIRS` names a folder of folders with `.bin` files.

use std::env;
use std::path::{Path, PathBuf};

use otaru_format::chip::Chip;
use otaru_format::digest::Digest;
use otaru_format::image::{DescriptorFields, ImageFields};

/// Blocks of [`image`].
const BLOCKS: usize = 4;

/// Makes a good image for an ESP32-C3 with this code.
pub fn image_of(project: &str, version: &str, code: &[u8]) -> Vec<u8> {
    let descriptor = DescriptorFields { project, version, secure_version: 0, elf_sha256: Digest::of(b"elf") };
    let segments = &[(0x4200_0020, &[][..]), (0x4200_0020, code)];
    ImageFields { chip: Chip::Esp32C3, descriptor, segments, hash_appended: true }.emit()
}

/// Makes a good image with blocks that compress well and one that does not at all.
pub fn image(project: &str, version: &str) -> Vec<u8> {
    let mut noise = 1_u32;
    let mut random = || {
        noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (noise >> 24) as u8
    };
    let code: Vec<u8> = (0..BLOCKS * 65536 - 20_000)
        .map(|at| if at / 65536 == 2 { random() } else { (at / 97) as u8 })
        .collect();
    image_of(project, version, &code)
}

/// Returns the folder that `OTARU_FIRMWARE_PAIRS` names.
pub fn real_folder() -> Option<PathBuf> {
    env::var_os("OTARU_FIRMWARE_PAIRS").map(PathBuf::from)
}

/// Lists every `.bin` in the folders below [`real_folder`], sorted; none when that is not set.
pub fn real_files() -> Vec<PathBuf> {
    let Some(folder) = real_folder() else { return Vec::new() };
    let entries = |folder: &Path| {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let files = entries(&folder).into_iter().flat_map(|folder| entries(&folder));
    let mut firmware: Vec<_> =
        files.filter(|file| file.extension().is_some_and(|ext| ext == "bin")).collect();
    firmware.sort();
    firmware
}
