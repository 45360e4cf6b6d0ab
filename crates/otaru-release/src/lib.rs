//! Makes, signs and verifies release files on a host: what the command line and a server share.
//!
//! | step | file |
//! | --- | --- |
//! | keys in files that openssl reads | [`keys`] |
//! | from an image to a manifest and its payloads | [`build`] |
//! | sign, and sign anew with another key | [`sign`] |
//! | a release file in memory, cut into its parts | [`mod@file`] |
//! | numbers for releases | [`sequence`] |
//! | check all of it, as a device would and more | [`verify`] |
//! | files that are there whole or not at all | [`output`] |
//!
//! The bytes are laid out by `otaru_format::release`; nothing here uses a network.
#![forbid(unsafe_code)]

pub mod build;
pub mod file;
pub mod keys;
pub mod output;
pub mod sequence;
pub mod sign;
pub mod verify;
