//! The project's own commands: `cargo xtask --help`.
//!
//! [`checks`] is `test`, the list of everything that is checked; [`chip`] compiles for a chip, [`xtensa`] type-checks for those it cannot
//! compile for; [`firmware`] makes the images for boards; [`emulate`] runs them; [`sim`] runs the virtual devices' long tests and
//! benchmarks. [`compression`] measures compressors, [`delta`] patches, [`downloads`] what the server hands out, [`fleet`] what it needs for
//! thousands of devices, [`scale`] for a million rows, [`servers`] for a report where there are several of them, [`attacks`] what others
//! notice while it is attacked, [`broker`] brokers, [`tls`] connections over TLS. [`floors`] holds arrows against the table; [`packages`]
//! is what would be published; [`fuzz`] runs the fuzzers; [`schemathesis`] asks the server's API what its description allows and
//! forbids. [`serve`] starts a server, [`postgres`] asks its database, [`processes`] tells what it cost; [`tools`] fetches what the
//! checks need; [`report`] keeps count; [`shell`] starts other programs.
#![forbid(unsafe_code)]

mod attacks;
mod beside;
mod broker;
mod checks;
mod chip;
mod compression;
mod delta;
mod downloads;
mod emulate;
mod firmware;
mod fleet;
mod floors;
mod fuzz;
mod mbedtls;
mod packages;
mod pages;
mod postgres;
mod processes;
mod report;
mod scale;
mod schemathesis;
mod serve;
mod servers;
mod shell;
mod sim;
mod tls;
mod tools;
mod xtensa;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Builds and checks Otaru.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs every check, prints how long each took, and lists loudly what could not be checked
    Test(checks::Options),
    /// Cuts the power of a virtual device at every point of an update
    PowerCut(sim::PowerCut),
    /// Measures updates of virtual devices, compressors, patches, verifying, downloads, brokers, or a server under attack
    Bench(sim::Bench),
    /// Holds the arrows between files and between crates against the table of floors, xtask/floors.toml
    Floors(floors::Options),
    /// Feeds every parser with what is made of the kept corpus
    Fuzz(fuzz::Options),
    /// Compiles what runs on a chip for riscv32imc-unknown-none-elf, without std
    ChipCheck,
    /// Type-checks what runs on a chip, and the firmware, for esp32, esp32s2 and esp32s3
    CheckXtensa(xtensa::Options),
    /// Builds the firmware for a board: program, update file and whole flash image, below target/firmware
    Firmware(firmware::Options),
    /// Builds the firmware and writes it to a board that is plugged in
    Flash(firmware::flash::Options),
    /// Runs the firmware on an emulated ESP32-C3, from the bootloader on: updates, a roll back, power cuts
    Emulate(emulate::Options),
    /// Measures what the firmware and its agent cost in flash and RAM
    Size(firmware::size::Options),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Test(options) => checks::test(&options),
        Command::PowerCut(options) => sim::power_cut(&options),
        Command::Bench(options) => sim::bench(&options),
        Command::Floors(options) => floors::floors(&options),
        Command::Fuzz(options) => fuzz::fuzz(&options),
        Command::ChipCheck => chip::check(),
        Command::CheckXtensa(options) => xtensa::check(&options),
        Command::Firmware(options) => firmware::make(&options),
        Command::Flash(options) => firmware::flash::flash(&options),
        Command::Emulate(options) => emulate::emulate(&options),
        Command::Size(options) => firmware::size::size(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Not returned from here: the way it came is of no interest to whoever typed the command.
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flash_takes_the_firmwares_options_beside_its_own() {
        let words = ["xtask", "flash", "--port", "/dev/ttyACM0", "--chip", "esp32c3", "--no-credentials"];
        assert!(matches!(Cli::parse_from(words).command, Command::Flash(_)));
        let help = Cli::try_parse_from(["xtask", "flash", "--help"]).err().map(|help| help.to_string());
        assert!(help.is_some_and(|help| help.contains("--port") && help.contains("--flash-size")));
    }
}
