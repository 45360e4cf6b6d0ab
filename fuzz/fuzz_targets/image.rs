//! Images: their heads are read without a panic, and the verdict does not depend on the pieces they come in.
#![no_main]

use libfuzzer_sys::fuzz_target;
use otaru_format::digest::Digest;
use otaru_format::image::{Head, Header, ImageCheck, ImageError};

fn check(bytes: &[u8], piece: usize) -> Result<(u32, Digest), ImageError> {
    let mut check = ImageCheck::new(1 << 20);
    for piece in bytes.chunks(piece) {
        check.feed(piece)?;
    }
    check.finish().map(|summary| (summary.len, summary.digest))
}

fuzz_target!(|bytes: &[u8]| {
    if let Ok(header) = Header::parse(bytes) {
        assert_eq!(Header::parse(&header.emit()), Ok(header));
    }
    if let Ok(Head { descriptor: Some(descriptor), .. }) = Head::parse(bytes) {
        let _ = (descriptor.project(), descriptor.version(), descriptor.time(), descriptor.date());
        let _ = (descriptor.idf_version(), descriptor.elf_sha256(), descriptor.secure_version());
    }
    let pieces = 1 + bytes.len() % 61;
    assert_eq!(check(bytes, pieces), check(bytes, bytes.len().max(1)));
});
