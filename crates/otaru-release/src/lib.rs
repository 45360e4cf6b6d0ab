#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod build;
pub mod file;
pub mod keys;
pub mod output;
pub mod sequence;
pub mod sign;
pub mod verify;
