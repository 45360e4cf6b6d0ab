//! The virtual devices' long tests and benchmarks.

use std::fs;

use anyhow::{Result, bail};
use clap::{Args, Subcommand, ValueEnum};

use crate::attacks;
use crate::broker;
use crate::compression;
use crate::delta;
use crate::downloads;
use crate::fleet;
use crate::scale;
use crate::servers;
use crate::shell::{cargo, root, run};
use crate::tls;

/// Options of `power-cut`.
#[derive(Args)]
pub(crate) struct PowerCut {
    /// Cut at every byte of every flash operation, instead of at a sample of them: a million cuts on each geometry, in about a quarter
    /// of an hour on two free cores
    #[arg(long)]
    exhaustive: bool,
    /// Cut updates of this kind only
    #[arg(long, value_enum)]
    kind: Option<Kind>,
    /// Flash to cut updates on [default: 4mb with --exhaustive, all without, which divides the sample among them]
    #[arg(long, value_enum)]
    geometry: Option<Geometry>,
}

/// Geometries of flash, by the names that otaru-sim has for them.
#[derive(Clone, Copy, ValueEnum)]
enum Geometry {
    /// Otaru's layout for 4 MiB: slots of whole 64 KiB blocks
    #[value(name = "4mb")]
    Otaru4,
    /// Otaru's layout for 16 MiB
    #[value(name = "16mb")]
    Otaru16,
    /// ESP-IDF's "Factory app, two OTA definitions": no `otaru` partition, here with slots off the 64 KiB boundaries
    EspIdf,
    /// Each of them
    All,
}

/// Kinds of what is taken in an update.
#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    /// A bare image
    Bare,
    /// A signed and compressed release
    Release,
    /// A patch of a signed release
    Delta,
}

impl Kind {
    /// The beginning of its tests' names.
    fn tests(self) -> &'static str {
        match self {
            Self::Bare => "power_cut_anywhere_with",
            Self::Release => "power_cut_anywhere_in_a_release",
            Self::Delta => "power_cut_anywhere_in_a_delta",
        }
    }
}

/// Runs otaru-sim's `power_cut` tests with their output.
pub(crate) fn power_cut(options: &PowerCut) -> Result<()> {
    let tests = options.kind.map_or("power_cut", Kind::tests);
    let mut command = cargo(&["test", "--release", "--package", "otaru-sim", tests, "--", "--nocapture"]);
    if let Some(name) = options.geometry.and_then(|geometry| geometry.to_possible_value()) {
        command.env("OTARU_GEOMETRY", name.get_name());
    }
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

/// Further benchmarks.
#[derive(Subcommand)]
enum Other {
    /// Attacks a server while others use it, and prints how much they notice and what the server keeps
    Attacks(attacks::Options),
    /// Measures connections over TLS beside nginx, and the memory of idle ones over MQTTS
    Tls(tls::Options),
    /// Measures the embedded broker beside Mosquitto: a fleet's connections, their memory, a message to each
    Broker(broker::Options),
    /// Compares compressors over real firmware, and their decoders' code for a chip
    Compression(compression::Options),
    /// Compares patches over pairs of real firmware with those of other programs, and measures the decoder
    Delta(delta::Options),
    /// Measures how fast the server hands out a file, beside nginx
    Downloads(downloads::Options),
    /// Runs a server and thousands of virtual devices, and prints what the server needs
    Fleet(fleet::Options),
    /// Measures a rollout to a million devices, over SQLite and over PostgreSQL
    Scale(scale::Options),
    /// Measures what a report costs one, two and three servers over PostgreSQL
    Servers(servers::Options),
    /// Measures what verifying a release costs: code for a chip, and time on this machine beside openssl
    Verification,
}

/// Runs otaru-sim's `update` benchmark, or another.
pub(crate) fn bench(options: &Bench) -> Result<()> {
    match &options.other {
        Some(Other::Attacks(options)) => return attacks::bench(options),
        Some(Other::Broker(options)) => return broker::bench(options),
        Some(Other::Tls(options)) => return tls::bench(options),
        Some(Other::Compression(options)) => return compression::bench(options),
        Some(Other::Delta(options)) => return delta::bench(options),
        Some(Other::Downloads(options)) => return downloads::bench(options),
        Some(Other::Fleet(options)) => return fleet::bench(options),
        Some(Other::Scale(options)) => return scale::bench(options),
        Some(Other::Servers(options)) => return servers::bench(options),
        Some(Other::Verification) => return verification(),
        None => {}
    }
    let manifest = fs::read_to_string(root().join("crates/otaru-sim/Cargo.toml"))?;
    if !manifest.contains("[[bench]]") {
        bail!("otaru-sim has no benchmark yet");
    }
    let mut command = cargo(&["bench", "--package", "otaru-sim", "--bench", "update", "--"]);
    run(command.args(&options.arguments))
}

/// The parts of a verification, as `xtask/code-size` has them as features; the compact Ed25519 is there to compare.
const VERIFICATION: [&str; 5] = ["sha256", "ed25519", "ed25519-compact", "manifest", "verification"];

fn verification() -> Result<()> {
    run(&mut cargo(&["bench", "--package", "otaru-release", "--bench", "verify"]))?;
    compression::code_sizes("part of a verification", &VERIFICATION)
}
