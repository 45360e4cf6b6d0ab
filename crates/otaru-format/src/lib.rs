#![doc = include_str!("../README.md")]
#![cfg_attr(feature = "document-features", doc = "\n## Features\n")]
#![cfg_attr(feature = "document-features", doc = document_features::document_features!())]
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
pub mod mqtt;
pub mod name;
pub mod otadata;
pub mod partition;
pub mod release;
pub mod status;
pub mod topic;
pub mod url;
