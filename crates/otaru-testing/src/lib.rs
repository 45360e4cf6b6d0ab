//! Things that the tests of several crates need: [`skip()`] a test loudly, find and run other [`programs`], [`brokers`], [`postgres`] and [`pgbouncer`], wait until something is so
//! ([`eventually`]), a [`free_port`], [`firmware`] real and made; with the feature `tls-peers` the table of TLS peers, good and bad.
//!
//! It is never published; a published crate leaves out those of its tests that use it.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

pub mod brokers;
pub mod command;
pub mod firmware;
pub mod pgbouncer;
pub mod postgres;
pub mod programs;
mod skip;
#[cfg(feature = "tls-peers")]
pub mod tls_peers;
mod wait;

pub use command::{Ended, Running, run};
pub use programs::{Program, find, have, program};
pub use skip::{skip, skipped};
pub use wait::{LIMIT, eventually, eventually_or, free_port};
