//! The device's TLS against servers, good and bad: `table.rs` has those that virtual devices meet, too; its memory is counted, its longest step too.
#![cfg(any(feature = "own-server", feature = "any-server"))]
#![expect(clippy::unwrap_used, reason = "a scenario that cannot be set up has failed")]

mod bad;
mod device;
mod good;
mod memory;
mod server;
mod table;
