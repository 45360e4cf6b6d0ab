//! The device's TLS against servers, good and bad: `table.rs` has those that virtual devices meet, too; its memory is counted, its longest step too.
//! `prebuilt` checks no dates, so that it is held against good servers only.
#![cfg(any(feature = "dated", feature = "prebuilt"))]
#![expect(clippy::unwrap_used, reason = "a scenario that cannot be set up has failed")]

#[cfg(feature = "dated")]
mod bad;
mod device;
mod good;
mod memory;
mod server;
#[cfg(feature = "dated")]
mod table;
