//! ESP application images: header, segments, checksum, appended SHA-256, application descriptor.
//!
//! Layout after ESP-IDF `esp_app_format.h` and `esp_app_desc.h`: a header of 24 bytes; segments, each with load
//! address `u32` and length `u32` before its data; zeros until the byte before a multiple of 16; the checksum, the
//! XOR of all segment data begun with 0xEF; if the header says so, the SHA-256 of everything before it. The
//! descriptor is the start of the first segment. What else may stand in such a file is told by [`mod@file`].
//!
//! [`head`] reads header and descriptor, [`check`] holds a whole image against its own checksums, [`file`](mod@file) tells what
//! else is in its file, [`writer`] makes small ones.

mod check;
pub mod file;
mod head;
#[cfg(test)]
mod tests;
#[cfg(any(test, feature = "image-writer"))]
mod writer;

pub use check::{ImageCheck, ImageSummary};
pub use head::{
    DESCRIPTOR_LEN, DESCRIPTOR_MAGIC, Descriptor, HEAD_LEN, HEADER_LEN, Head, Header, ImageError, MAGIC,
    MAX_SEGMENTS, SEGMENT_HEADER_LEN,
};
#[cfg(any(test, feature = "image-writer"))]
pub use writer::{DescriptorFields, ImageFields, Segment};
