#![doc = include_str!("../README.md")]
#![cfg_attr(feature = "document-features", doc = "\n## Features\n")]
#![cfg_attr(feature = "document-features", doc = document_features::document_features!())]
#![no_std]
#![forbid(unsafe_code)]
#![expect(async_fn_in_trait, reason = "a decoder runs in one task; nothing is sent between threads")]

#[cfg(any(test, feature = "std"))]
extern crate std;

mod anchors;
mod chips;
mod decoder;
#[cfg(feature = "encode")]
mod encode;
mod error;
mod header;
mod host;
mod images;
mod input;
mod learned;
mod predict;
mod segments;
#[cfg(feature = "std")]
mod slices;
mod workspace;

pub use decoder::apply;
#[cfg(feature = "encode")]
pub use encode::{Contents, Costs, EncodeError, Encoded, analyze, encode, encode_with};
pub use error::{DeltaError, HeaderError, PatchError};
pub use header::{Header, VERSION};
pub use host::Host;
#[cfg(feature = "std")]
pub use slices::{ApplyError, apply_to_slice};
pub use workspace::{Lzma, Workspace};
