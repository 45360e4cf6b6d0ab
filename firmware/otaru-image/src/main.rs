//! Makes files for boards of compiled firmware, and measures it. `cargo xtask` runs it; by hand:
//!
//! ```text
//! otaru-image make CHIP 4mb|8mb|16mb PARTITIONS.csv PROGRAM.elf APP.bin FLASH.bin
//! otaru-image budget CHIP PROGRAM.elf [own-server|any-server|prebuilt]
//! otaru-image size CHIP PROGRAM.elf WITHOUT-AGENT.elf
//! otaru-image tls CHIP WITHOUT-TLS.elf OWN-SERVER.elf ANY-SERVER.elf
//! ```
#![forbid(unsafe_code)]

mod budget;
mod crates;
mod image;
mod size;
mod symbols;

use std::env;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Result, bail};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let words: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["make", chip, size, table, elf, app, flash] => {
            let image = image::Image::read(chip, size, Path::new(table), Path::new(elf))?;
            image.write(Path::new(app), Path::new(flash))
        }
        ["budget", chip, elf] => budget::check(chip, Path::new(elf), None),
        ["budget", chip, elf, tls] => budget::check(chip, Path::new(elf), Some(tls)),
        ["size", chip, with, without] => size::compare(chip, Path::new(with), Path::new(without)),
        ["tls", chip, without, own, any] => size::compare_tls(chip, [without, own, any].map(Path::new)),
        _ => bail!(
            "make CHIP SIZE TABLE ELF APP FLASH, budget CHIP ELF [TLS], size CHIP ELF ELF, or: tls CHIP ELF ELF ELF"
        ),
    }
}
