#![doc = include_str!("../README.md")]
//!
//! `trust.rs` reads what is trusted and makes rustls's configuration of it, `verifier.rs` verifies servers, `reason.rs` has the failures.
#![forbid(unsafe_code)]

mod error;
mod reason;
mod trust;
mod verifier;

pub use error::TrustError;
pub use reason::Reason;
pub use trust::Trust;
