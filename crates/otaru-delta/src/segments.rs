//! Load addresses of an image's bytes: between offsets in the file and addresses.

use otaru_format::image::{HEADER_LEN, MAGIC, MAX_SEGMENTS, SEGMENT_HEADER_LEN};

/// Most segments of an image.
const MAX: usize = MAX_SEGMENTS as usize;

/// Contents of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Contents {
    Data,
    Code,
}

/// A part of an image that is loaded to one place.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Segment {
    /// Address of the first byte.
    pub(crate) address: u32,
    /// Offset of the first byte in the image.
    pub(crate) offset: u32,
    /// Length in bytes.
    pub(crate) len: u32,
    /// Contents; not told of a new image's segments.
    pub(crate) contents: Contents,
}

impl Segment {
    const NONE: Self = Self { address: 0, offset: 0, len: 0, contents: Contents::Data };

    /// A segment that follows at `offset`, unless it reaches beyond the image's end.
    pub(crate) fn new(address: u32, offset: u32, len: u32, image_len: u32) -> Option<Self> {
        let end = offset.checked_add(len)?;
        address.checked_add(len)?;
        (end <= image_len).then_some(Self { address, offset, len, contents: Contents::Data })
    }

    /// Returns the offset of the next segment's data.
    pub(crate) const fn next_offset(&self) -> u32 {
        self.offset.saturating_add(self.len).saturating_add(SEGMENT_HEADER_LEN as u32)
    }

    /// Whether it holds this offset.
    pub(crate) const fn has(&self, offset: u32) -> bool {
        offset.wrapping_sub(self.offset) < self.len
    }

    /// The address of an offset, which it holds.
    pub(crate) const fn address(&self, offset: u32) -> u32 {
        self.address.wrapping_add(offset.wrapping_sub(self.offset))
    }
}

/// The segments of an image.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Segments {
    list: [Segment; MAX],
    len: usize,
}

impl Segments {
    /// None.
    pub(crate) const EMPTY: Self = Self { list: [Segment::NONE; MAX], len: 0 };
    /// Offset of the first segment's header.
    pub(crate) const FIRST: u32 = HEADER_LEN as u32;
    /// Offset of the first segment's data.
    pub(crate) const FIRST_DATA: u32 = Self::FIRST + SEGMENT_HEADER_LEN as u32;

    /// Counts the segments of the image that begins like this, if it is one.
    pub(crate) const fn count(head: [u8; 2]) -> Option<u8> {
        let [MAGIC, count @ 1..=MAX_SEGMENTS] = head else { return None };
        Some(count)
    }

    /// Adds one, if there is room.
    pub(crate) fn push(&mut self, segment: Segment) -> Option<()> {
        *self.list.get_mut(self.len)? = segment;
        self.len += 1;
        Some(())
    }

    pub(crate) fn as_slice(&self) -> &[Segment] {
        &self.list[..self.len]
    }

    #[cfg(feature = "encode")]
    pub(crate) fn as_mut_slice(&mut self) -> &mut [Segment] {
        &mut self.list[..self.len]
    }

    /// The segment that holds this offset.
    pub(crate) fn at_offset(&self, offset: u32) -> Option<&Segment> {
        self.as_slice().iter().find(|segment| segment.has(offset))
    }

    /// The segment that is loaded to this address, or ends there if none is.
    pub(crate) fn at_address(&self, address: u32) -> Option<&Segment> {
        let distance = |segment: &Segment| address.wrapping_sub(segment.address);
        let inside = self.as_slice().iter().find(|segment| distance(segment) < segment.len);
        inside.or_else(|| self.as_slice().iter().find(|segment| distance(segment) == segment.len))
    }

    /// The offset of the byte at this address, or of the end of the segment that ends there.
    pub(crate) fn offset(&self, address: u32) -> Option<u32> {
        let segment = self.at_address(address)?;
        Some(segment.offset + (address - segment.address))
    }

    /// The addresses an offset may have: one, or two where a segment ends.
    pub(crate) fn addresses(&self, offset: u32) -> impl Iterator<Item = u32> + '_ {
        let near =
            self.as_slice().iter().filter(move |segment| offset.wrapping_sub(segment.offset) <= segment.len);
        near.map(move |segment| segment.address(offset))
    }
}
