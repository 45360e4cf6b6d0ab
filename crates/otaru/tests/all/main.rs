//! The program as its users meet it: the real binary, real sockets, real files, in one test binary.
//!
//! [`cli`] is the command line, [`server`] the fleet server, [`real_peers`] other people's brokers and web servers, [`browser`] the
//! dashboard in Chromium, [`versions`] servers that are older or newer; [`common`] runs the binary.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod browser;
mod cli;
mod common;
mod real_peers;
mod server;
mod versions;
