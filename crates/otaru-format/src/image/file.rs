//! Files that begin with an image, and what else may stand in them: a signature block of secure boot behind it, or a whole flash
//! image around it.

use super::check::ImageCheck;
use super::head::{HEAD_LEN, Head, MAGIC};
use crate::partition;

/// Bytes of a flash sector: signature blocks begin and end with one.
pub const SECTOR: u32 = 4096;
/// First bytes of a signature block (ESP-IDF's secure boot v2, `ets_secure_boot_sig_block`): magic byte and version.
pub const SIGNATURE_MAGIC: [u8; 2] = [0xE7, 0x02];
/// Flash offsets of bootloaders, depending on the chip.
pub const BOOTLOADER_OFFSETS: [u32; 3] = [0, 0x1000, 0x2000];

/// Tells people which file to use in place of a merged flash image.
pub const MERGED_REMEDY: &str = "it is a merged flash image, with bootloader and partition table; use the application's \
                                 own .bin, as `espflash save-image` without --merge or `idf.py build` makes it";

/// Bytes behind an image in its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trailer {
    /// Nothing.
    None,
    /// A signature block of secure boot v2, in the sector after the image.
    Signature,
    /// Anything else.
    Other,
}

/// The end of the sector that a signature block has, behind an image of this length; `None` where no file reaches.
pub const fn signed_len(image_len: u32) -> Option<u32> {
    match image_len.checked_next_multiple_of(SECTOR) {
        Some(start) => start.checked_add(SECTOR),
        None => None,
    }
}

impl Trailer {
    /// Tells what follows the first `image_len` bytes of `file`.
    pub fn of(file: &[u8], image_len: u32) -> Self {
        match file.get(image_len as usize..) {
            None | Some([]) => Self::None,
            Some(_) if is_signed(file, image_len) => Self::Signature,
            Some(_) => Self::Other,
        }
    }
}

/// Bytes of `file` that are to be kept: the image of this length, and its signature block if there is one.
pub fn kept_len(file: &[u8], image_len: u32) -> u32 {
    match Trailer::of(file, image_len) {
        Trailer::Signature => signed_len(image_len).unwrap_or(image_len),
        Trailer::None | Trailer::Other => image_len,
    }
}

fn is_signed(file: &[u8], image_len: u32) -> bool {
    let block = signed_len(image_len).and_then(|end| file.get(image_len as usize..end as usize));
    block.is_some_and(|tail| {
        let (gap, block) = tail.split_at(tail.len().saturating_sub(SECTOR as usize));
        block.starts_with(&SIGNATURE_MAGIC) && gap.iter().all(|byte| *byte == 0xFF)
    })
}

/// Whether `file` is a merged flash image: a bootloader where chips have it, and a partition table at its usual place. An
/// application that is so long that it covers that place is none.
pub fn is_merged(file: &[u8]) -> bool {
    let blank =
        |end: u32| file.get(..end as usize).is_some_and(|bytes| bytes.iter().all(|byte| *byte == 0xFF));
    let starts = |offset: u32| file.get(offset as usize) == Some(&MAGIC);
    if BOOTLOADER_OFFSETS[1..].iter().any(|offset| blank(*offset) && starts(*offset)) {
        return true;
    }
    let table = file.get(partition::TABLE_OFFSET as usize..);
    starts(0)
        && table.is_some_and(|table| table.starts_with(&partition::MAGIC))
        && (names_nothing(file) || ends_before_table(file))
}

fn names_nothing(file: &[u8]) -> bool {
    file.get(..HEAD_LEN).is_none_or(|head| Head::parse(head).is_ok_and(|head| head.descriptor.is_none()))
}

fn ends_before_table(file: &[u8]) -> bool {
    let mut check = ImageCheck::new(partition::TABLE_OFFSET);
    file.get(..partition::TABLE_OFFSET as usize)
        .is_some_and(|front| check.feed(front).is_ok() && check.is_complete())
}

#[cfg(test)]
mod tests {
    use std::vec;
    use std::vec::Vec;

    use super::*;
    use crate::chip::Chip;
    use crate::digest::Digest;
    use crate::image::{DescriptorFields, ImageFields};

    fn application(len: usize) -> Vec<u8> {
        let descriptor = DescriptorFields {
            project: "p",
            version: "1",
            secure_version: 0,
            elf_sha256: Digest::of(b"elf"),
        };
        let code = vec![7; len];
        let segments = &[(0x3C00_0020, &[][..]), (0x4038_0000, &code)];
        ImageFields { chip: Chip::Esp32C3, descriptor, segments, hash_appended: true }.emit()
    }

    /// An image of the same layout that says nothing about itself.
    fn bootloader() -> Vec<u8> {
        let mut image = application(4000);
        image[32] ^= 1;
        image
    }

    fn merged(offset: usize, bootloader: &[u8]) -> Vec<u8> {
        let mut file = vec![0xFF; offset];
        file.extend(bootloader);
        file.resize(0x8000, 0xFF);
        file.extend([0xAA, 0x50, 1, 2]);
        file.resize(0x10000, 0xFF);
        file.extend(application(9000));
        file
    }

    #[test]
    fn merged_images_are_told_from_applications() {
        for offset in BOOTLOADER_OFFSETS {
            assert!(is_merged(&merged(offset as usize, &bootloader())), "{offset:#x}");
        }
        // One whose bootloader tells a name.
        assert!(is_merged(&merged(0, &application(4000))));
        let mut long = application(0x9000);
        assert!(!is_merged(&long));
        long[0x8000..0x8002].copy_from_slice(&[0xAA, 0x50]);
        assert!(!is_merged(&long), "code may have any bytes");
        for other in [&b""[..], b"<html>", &[0xFF; 0x3000], &bootloader(), &application(40)] {
            assert!(!is_merged(other));
        }
    }

    #[test]
    fn a_signature_block_is_told_from_anything_else() {
        let image = application(5000);
        let len = image.len() as u32;
        let mut signed = image.clone();
        signed.resize(8192, 0xFF);
        signed.extend([0xE7, 0x02]);
        signed.resize(3 * 4096, 0x5A);
        assert_eq!(Trailer::of(&signed, len), Trailer::Signature);
        assert_eq!(kept_len(&signed, len), 3 * 4096);
        signed.push(0);
        assert_eq!(kept_len(&signed, len), 3 * 4096, "what follows it is cut");
        assert_eq!(Trailer::of(&image, len), Trailer::None);
        for (at, byte) in [(8192, 0xE8), (8193, 1), (8191, 0)] {
            let mut bad = signed.clone();
            bad[at] = byte;
            assert_eq!((Trailer::of(&bad, len), kept_len(&bad, len)), (Trailer::Other, len), "{at}");
        }
        assert_eq!(Trailer::of(&signed[..3 * 4096 - 1], len), Trailer::Other);
        assert_eq!(signed_len(u32::MAX), None);
    }
}
