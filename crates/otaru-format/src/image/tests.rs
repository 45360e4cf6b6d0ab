//! Good and damaged images, read and checked.

use super::*;
use crate::chip::Chip;
use crate::digest::Digest;
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
