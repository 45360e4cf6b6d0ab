//! Every byte layout Otaru reads or writes.
//!
//! Readers work on byte slices without copying and do not panic on any bytes; writers exist for what Otaru
//! writes. No I/O, and no allocation unless the feature `image-writer` is on, which no chip needs.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(any(test, feature = "image-writer"))]
extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod chip;
pub mod command;
pub mod digest;
pub mod guards;
pub mod image;
mod json;
pub mod name;
pub mod otadata;
pub mod partition;
pub mod release;
pub mod status;
pub mod topic;
pub mod url;
