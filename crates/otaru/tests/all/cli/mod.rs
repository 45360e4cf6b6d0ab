//! The command line as its users meet it: the real binary, real sockets, real files.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;
mod delta;
mod demo;
mod errors;
mod files;
mod image;
mod push;
mod release;
mod sim;
mod terminal;
