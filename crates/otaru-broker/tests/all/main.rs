//! The broker over real sockets and in-memory streams, with a client of bytes that shares no code with it.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod attacks;
mod bounds;
mod client;
mod delivery;
mod ends;
mod house;
mod mosquitto;
mod properties;
mod proxies;
mod retained;
mod sessions;
mod statements;
mod turns;
mod versions;
mod wills;
