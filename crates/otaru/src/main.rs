//! The command line of Otaru: over-the-air firmware updates for ESP32, over MQTT and HTTP.
//!
//! One file a command in [`commands`]; what they share is beside them: where brokers and files come from ([`hosting`]), what
//! devices report ([`fleet`]), firmware files ([`firmware_file`]), virtual devices ([`virtual_board`]) and output ([`ui`]).
#![forbid(unsafe_code)]
// The layout of a virtual device's future, with the whole agent in it, nests deeper than 128 queries.
#![recursion_limit = "256"]

mod cli;
mod client;
mod commands;
mod firmware_file;
mod fleet;
mod hosting;
mod in_clear;
mod logging;
mod options;
mod release_file;
mod signals;
mod ui;
mod virtual_board;

use std::process::ExitCode;

/// Gives memory back to the system after thousands of connections came and went; the C library's keeps most of it. Without huge pages,
/// which it would keep whole: measured with 4,000 connections, 28 MiB before, 91 with the C library's, 65 with huge pages, 41 so.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::main()
}
