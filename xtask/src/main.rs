//! The project's own commands: `cargo xtask --help`.
//!
//! [`checks`] is `test`, the list of everything that is checked; [`chip`] compiles for a chip; [`sim`] runs the
//! virtual devices' long tests and benchmarks; [`compression`] measures compressors; [`fuzz`] runs the fuzzers;
//! [`tools`] fetches what the checks need; [`report`] keeps count; [`shell`] starts other programs.
#![forbid(unsafe_code)]

mod checks;
mod chip;
mod compression;
mod fuzz;
mod report;
mod shell;
mod sim;
mod tools;

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
    /// Measures updates of virtual devices, or compressors
    Bench(sim::Bench),
    /// Feeds every parser with what is made of the kept corpus
    Fuzz(fuzz::Options),
    /// Compiles what runs on a chip for riscv32imc-unknown-none-elf, without std
    ChipCheck,
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Test(options) => checks::test(&options),
        Command::PowerCut(options) => sim::power_cut(&options),
        Command::Bench(options) => sim::bench(&options),
        Command::Fuzz(options) => fuzz::fuzz(&options),
        Command::ChipCheck => chip::check(),
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
