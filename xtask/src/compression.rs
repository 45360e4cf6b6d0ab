//! `cargo xtask bench compression`: what each compressor costs and saves.
//!
//! Ratio, RAM and speed come from otaru-lzma's benchmark. Code sizes are measured here: `xtask/code-size` is a
//! program for a chip with one decoder in it, and is compared with itself without any.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args;
use object::{Object as _, ObjectSection as _, SectionKind};

use crate::chip;
use crate::shell::{cargo, root, run};

/// Options of `bench compression`.
#[derive(Args)]
pub(crate) struct Options {
    /// A folder of folders with .bin files
    #[arg(long, env = "OTARU_FIRMWARE_PAIRS")]
    pairs: Option<PathBuf>,
}

/// The decoders, as `xtask/code-size` has them as features.
const DECODERS: [&str; 4] = ["lzma", "deflate", "heatshrink", "lz4"];

/// Prints both tables.
pub(crate) fn bench(options: &Options) -> Result<()> {
    let mut command = cargo(&["bench", "--package", "otaru-lzma", "--features", "encode"]);
    command.args(["--bench", "compression"]);
    if let Some(pairs) = &options.pairs {
        // Cargo runs it elsewhere.
        command.env("OTARU_FIRMWARE_PAIRS", std::path::absolute(pairs)?);
    }
    run(&mut command)?;
    code_sizes("decoder", &DECODERS)
}

/// Prints how much of a chip's flash each of these takes alone, all of them features of `xtask/code-size`.
pub(crate) fn code_sizes(what: &str, features: &[&str]) -> Result<()> {
    let Some(nothing) = size_with("")? else {
        println!("\nSKIPPED: code sizes: {}", chip::remedy(chip::TARGET));
        return Ok(());
    };
    let mut rows = String::new();
    for feature in features {
        let size = size_with(feature)?.unwrap_or(nothing);
        rows += &format!("| {feature} | {} |\n", size.saturating_sub(nothing));
    }
    println!("\n| {what} | bytes of code and constants, {} |\n| --- | --- |\n{rows}", chip::TARGET);
    Ok(())
}

/// Measures how much of an image the program with this decoder takes, if the machine can build it.
fn size_with(decoder: &str) -> Result<Option<u64>> {
    let folder = root().join("target/code-size");
    let Some(mut command) = chip::cargo_for(chip::TARGET, "build") else { return Ok(None) };
    command.args(["--release", "--quiet", "--manifest-path", "xtask/code-size/Cargo.toml"]);
    command.arg("--target-dir").arg(&folder);
    run(command.args(["--features", decoder]))?;
    let file = folder.join(chip::TARGET).join("release/code-size");
    let bytes = fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let elf = object::File::parse(&*bytes)?;
    let kept = [SectionKind::Text, SectionKind::ReadOnlyData, SectionKind::ReadOnlyString, SectionKind::Data];
    let sections = elf.sections().filter(|section| kept.contains(&section.kind()));
    Ok(Some(sections.map(|section| section.size()).sum()))
}
