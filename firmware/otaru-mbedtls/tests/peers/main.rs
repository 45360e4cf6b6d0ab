//! The device's TLS against servers, good and bad; its memory is counted, its longest step too.
#![cfg(any(feature = "own-server", feature = "any-server"))]
#![expect(clippy::unwrap_used, reason = "a scenario that cannot be set up has failed")]

mod authority;
mod bad;
mod device;
mod good;
mod memory;
mod server;
