//! Layout of images: their segments, and which of these are code.

use otaru_format::chip::Chip;
use otaru_format::image;

use super::stream::Relocation;
use crate::chips::memory_map;
use crate::segments::{Contents, Segment, Segments};

/// Reads what is needed to predict addresses, if these are images of the same chip.
pub(super) fn relocation(old: &[u8], new: &[u8]) -> Option<(Chip, Relocation)> {
    let chip = |image: &[u8]| image::Header::parse(image).ok()?.chip();
    let chip = chip(old).filter(|found| chip(new) == Some(*found))?;
    let map = memory_map(chip)?;
    let mut old_segments = segments(old)?;
    for segment in old_segments.as_mut_slice() {
        let data = &old[segment.offset as usize..][..segment.len as usize];
        let is_code =
            if map.code.is_empty() { is_riscv_code(data) } else { map.code.contains(&segment.address) };
        segment.contents = if is_code { Contents::Code } else { Contents::Data };
    }
    Some((chip, Relocation { map: memory_map(chip)?, old: old_segments, new: segments(new)? }))
}

/// An image's segments.
fn segments(image: &[u8]) -> Option<Segments> {
    let count = Segments::count([*image.first()?, *image.get(1)?])?;
    let mut segments = Segments::EMPTY;
    let mut offset = Segments::FIRST;
    for _ in 0..count {
        let header: [u8; 8] = *image.get(offset as usize..)?.first_chunk()?;
        let [a, b, c, d, e, f, g, h] = header;
        let (address, len) = (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]));
        let segment = Segment::new(address, offset.checked_add(8)?, len, image.len() as u32)?;
        offset = segment.offset + len;
        segments.push(segment)?;
    }
    Some(segments)
}

/// Whether these bytes look like RISC-V code: a return, `c.jr ra`, is in every few hundred bytes of it, and hardly ever
/// in data.
fn is_riscv_code(bytes: &[u8]) -> bool {
    let returns = bytes.chunks_exact(2).filter(|pair| *pair == [0x82, 0x80]).count();
    returns * 1000 > bytes.len()
}
