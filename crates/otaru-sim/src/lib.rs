#![doc = include_str!("../README.md")]
//!
//! [`flash`] is NOR flash; [`geometry`] says what stands where on it; [`bootloader`] chooses a slot as ESP-IDF's second stage does; [`net`] is the host's network behind a Wi-Fi
//! that can be cut; [`device`] puts them around the agent.
#![cfg_attr(feature = "document-features", doc = "\n## Features\n")]
#![cfg_attr(feature = "document-features", doc = document_features::document_features!())]
#![forbid(unsafe_code)]

pub mod bootloader;
pub mod clock;
pub mod device;
pub mod firmware;
pub mod flash;
pub mod geometry;
#[cfg(feature = "lab")]
pub mod lab;
pub mod lan;
pub mod net;
pub mod tls;
