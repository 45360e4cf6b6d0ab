//! The virtual devices' long tests and benchmarks.

use std::fs;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};

use crate::compression;
use crate::shell::{cargo, root, run};

/// Options of `power-cut`.
#[derive(Args)]
pub(crate) struct PowerCut {
    /// Cut at every byte of every flash operation, instead of at a sample of them
    #[arg(long)]
    exhaustive: bool,
}

/// Runs otaru-sim's `power_cut` tests with their output.
pub(crate) fn power_cut(options: &PowerCut) -> Result<()> {
    let tests = ["test", "--release", "--package", "otaru-sim", "power_cut", "--", "--nocapture"];
    let mut command = cargo(&tests);
    run(command.env("OTARU_POWER_CUT", if options.exhaustive { "exhaustive" } else { "sampled" }))
}

/// Options of `bench`.
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Bench {
    #[command(subcommand)]
    other: Option<Other>,
    /// Passed on to the benchmark
    #[arg(trailing_var_arg = true)]
    arguments: Vec<String>,
}

/// What else is measured.
#[derive(Subcommand)]
enum Other {
    /// Compares compressors over real firmware, and their decoders' code for a chip
    Compression(compression::Options),
}

/// Runs otaru-sim's `update` benchmark, or another.
pub(crate) fn bench(options: &Bench) -> Result<()> {
    if let Some(Other::Compression(options)) = &options.other {
        return compression::bench(options);
    }
    let manifest = fs::read_to_string(root().join("crates/otaru-sim/Cargo.toml"))?;
    if !manifest.contains("[[bench]]") {
        bail!("otaru-sim has no benchmark yet");
    }
    let mut command = cargo(&["bench", "--package", "otaru-sim", "--bench", "update", "--"]);
    run(command.args(&options.arguments))
}
