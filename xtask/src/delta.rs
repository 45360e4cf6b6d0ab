//! `cargo xtask bench delta`: patches of Otaru beside those of others.
//!
//! Sizes, times and RAM come from otaru-delta's benchmark; the code's size is measured as [`compression`] does it.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use crate::compression;
use crate::shell::{cargo, run};

/// Options of `bench delta`.
#[derive(Args)]
pub(crate) struct Options {
    /// A folder of folders with an old.bin and a new.bin each
    #[arg(long, env = "OTARU_FIRMWARE_PAIRS")]
    pairs: Option<PathBuf>,
    /// Print one JSON object, without the code's size
    #[arg(long)]
    json: bool,
}

/// Prints the tables.
pub(crate) fn bench(options: &Options) -> Result<()> {
    let mut command =
        cargo(&["bench", "--package", "otaru-delta", "--features", "encode", "--bench", "delta", "--"]);
    if options.json {
        command.arg("--json");
    }
    if let Some(pairs) = &options.pairs {
        // Cargo runs it elsewhere.
        command.env("OTARU_FIRMWARE_PAIRS", std::path::absolute(pairs)?);
    }
    run(&mut command)?;
    if options.json {
        return Ok(());
    }
    compression::code_sizes("decoder", &["lzma", "delta"])
}
