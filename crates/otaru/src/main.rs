//! The command line of Otaru: over-the-air firmware updates for ESP32, over MQTT and HTTP.
//!
//! One file a command in [`commands`]; what they share is beside them: the broker's address and the client
//! ([`broker_url`], [`mqtt`]), broker and file server in this process ([`hosting`]), what devices report
//! ([`fleet`]), firmware files ([`firmware_file`]), virtual devices ([`virtual_board`]) and output ([`ui`]).
#![forbid(unsafe_code)]

mod broker_url;
mod cli;
mod commands;
mod firmware_file;
mod fleet;
mod hosting;
mod logging;
mod mqtt;
mod options;
mod release_file;
mod signals;
mod ui;
mod virtual_board;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
