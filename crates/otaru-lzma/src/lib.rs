#![doc = include_str!("../README.md")]
//!
//! [`decoder`] goes from symbol to symbol; [`range`] gets bits out of bytes; [`workspace`] is the memory; `encoder`, behind the feature
//! `encode`, makes streams on a host.
#![cfg_attr(feature = "document-features", doc = "\n## Features\n")]
#![cfg_attr(feature = "document-features", doc = document_features::document_features!())]
#![no_std]
#![forbid(unsafe_code)]

#[cfg(any(test, feature = "encode"))]
extern crate std;

mod decoder;
#[cfg(feature = "encode")]
mod encoder;
mod error;
mod properties;
mod range;
mod window;
mod workspace;

pub use decoder::{Decoder, Length, Step};
#[cfg(feature = "encode")]
pub use encoder::{encode, encode_stream};
pub use error::LzmaError;
pub use properties::Properties;
pub use workspace::{RELEASE_DICTIONARY, Workspace};
