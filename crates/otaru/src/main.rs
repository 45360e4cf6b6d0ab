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
mod database;
mod firmware_file;
mod fleet;
mod hosting;
mod in_clear;
mod logging;
mod moment;
#[cfg(test)]
mod operations;
mod options;
mod output;
mod percent;
mod registry;
mod release_file;
mod release_words;
mod rollouts;
mod signals;
mod trust;
mod ui;
mod virtual_board;

use std::process::ExitCode;

/// Gives memory back to the system when it is free for a while, by a thread of its own (`.cargo/config.toml`). Measured with two rounds of
/// 3,900 half-sent heads: 38 MiB before, 110 and 109 at most, 40 five seconds later. mimalloc still had 107 a minute later, and glibc's
/// more with every round.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    cli::main()
}
