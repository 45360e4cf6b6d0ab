//! Updates with the programs people run in earnest: Mosquitto, nginx, Python's web server, and real firmware.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod broker;
mod brokers;
#[expect(dead_code, reason = "the tests of the command line use more of it")]
#[path = "../cli/common.rs"]
mod common;
mod device;
mod faults;
mod fleet;
mod network;
mod program;
mod releases;
mod updates;
mod web;
mod wire;
