//! Type-checking what runs on a chip for the chips with Xtensa cores: esp32, esp32s2 and esp32s3.
//!
//! Users build for these with Espressif's own compiler. Where it is missing, the official one from 1.98 on reads
//! the firmware to the end, but cannot make a program of it. So this is a check and not a build.
//!
//! Ways, in the order they are tried: espup's toolchain; a compiler of rustup's that is new enough and has the
//! source of the standard library; Debian's newest compiler in a folder of its own ([`debian`]).

mod compiler;
mod debian;

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use clap::{Args, ValueEnum};

use self::compiler::{NEW_ENOUGH, has_source, is_new_enough};
use crate::report::{Outcome, Skip};
use crate::shell::{cargo, find, program, root, run};
use crate::tools;

/// Options of `check-xtensa`.
#[derive(Args)]
pub(crate) struct Options {
    /// Check for this chip only; may be given several times
    #[arg(long = "chip", value_enum, value_name = "CHIP")]
    chips: Vec<Chip>,
    /// Install missing compilers: fetch Debian's newest into target/tools; root on Debian does so without being
    /// asked
    #[arg(long)]
    install: bool,
}

/// The chips with Xtensa cores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Chip {
    Esp32,
    Esp32s2,
    Esp32s3,
}

impl Chip {
    /// Name: to users, as a feature of the firmware, and within the name of its target.
    fn name(self) -> &'static str {
        match self {
            Self::Esp32 => "esp32",
            Self::Esp32s2 => "esp32s2",
            Self::Esp32s3 => "esp32s3",
        }
    }

    /// Features of the firmware: the chip, and TLS where the chip has the memory for it.
    fn features(self) -> String {
        let tls = if self == Self::Esp32s3 { ",tls-prebuilt" } else { "" };
        format!("{}{tls}", self.name())
    }

    fn target(self) -> String {
        format!("xtensa-{}-none-elf", self.name())
    }

    /// Name of the environment variable by which cargo takes the compiler flags of its target.
    fn flags_variable(self) -> String {
        format!("CARGO_TARGET_XTENSA_{}_NONE_ELF_RUSTFLAGS", self.name().to_uppercase())
    }
}

/// Compiler that this machine can check with.
enum Toolchain {
    /// Espressif's compiler, and whether its linker is at hand.
    Espup { links: bool },
    /// The compiler that this program was started with.
    Current,
    /// rustup's nightly.
    Nightly,
    /// Debian's newest.
    Debian(debian::Toolchain),
}

/// `cargo xtask check-xtensa`.
pub(crate) fn check(options: &Options) -> Result<()> {
    let chips = if options.chips.is_empty() { Chip::value_variants() } else { &options.chips };
    match check_chips(chips, options.install || tools::is_debian_root())? {
        Outcome::Passed => Ok(()),
        Outcome::Skipped(skip) => anyhow::bail!("{}", skip.reason),
    }
}

/// Checks for all chips, if the machine can, or can after fetching a compiler.
pub(crate) fn check_all(install: bool) -> Result<Outcome> {
    check_chips(Chip::value_variants(), install)
}

fn check_chips(chips: &[Chip], install: bool) -> Result<Outcome> {
    let way = match find_way(install) {
        Ok(way) => way,
        Err(skip) => return Ok(Outcome::Skipped(skip)),
    };
    println!("with {}", way.name());
    check_crates(&way, chips)?;
    if root().join("firmware/Cargo.toml").exists() {
        for chip in chips {
            check_firmware(&way, *chip)?;
        }
    }
    Ok(Outcome::Passed)
}

/// The parts that know no chip.
fn check_crates(way: &Toolchain, chips: &[Chip]) -> Result<()> {
    let mut command = way.cargo(root(), chips);
    run(command.args(["--package", "otaru-format", "--package", "otaru-device", "--lib"]))
}

/// The firmware, with the credentials of its example. What of it is for a firmware without TLS only is read for the other chips.
fn check_firmware(way: &Toolchain, chip: Chip) -> Result<()> {
    // Started there, for cargo reads the settings of the folder it is started in.
    let folder = root().join("firmware");
    let mut command = way.cargo(&folder, &[chip]);
    command.env("OTARU_CREDENTIALS", folder.join("network_credentials.example.toml"));
    run(command.args(["--features", &chip.features()]))
}

/// Fetches a compiler where there is none.
pub(crate) fn install() -> Result<()> {
    if present_way().is_none() && tools::is_debian() {
        debian::install()?;
    }
    Ok(())
}

/// Finds how to check, or why not.
fn find_way(install: bool) -> Result<Toolchain, Skip> {
    if let Some(way) = present_way() {
        return Ok(way);
    }
    if !install {
        return Err(Skip { reason: remedy("no compiler for Xtensa"), avoidable: true });
    }
    debian::install().map(Toolchain::Debian).map_err(|error| Skip {
        reason: remedy(format!("no compiler for Xtensa: {error:#}")),
        // Where Debian's way fails, there is none that the project could go by itself.
        avoidable: !tools::is_debian(),
    })
}

fn remedy(problem: impl Display) -> String {
    let (major, minor) = NEW_ENOUGH;
    format!(
        "{problem}. Get one with espup (cargo install espup && espup install), or Rust {major}.{minor} or newer \
         (rustup toolchain install nightly --component rust-src), or on Debian: cargo xtask check-xtensa --install"
    )
}

fn present_way() -> Option<Toolchain> {
    let rustup = |toolchain| rustup(toolchain, "rustc");
    if has_source(&mut rustup("esp")) {
        return Some(Toolchain::Espup { links: find("xtensa-esp32-elf-gcc").is_some() });
    }
    if is_new_enough(&mut program("rustc")) && has_source(&mut program("rustc")) {
        return Some(Toolchain::Current);
    }
    if is_new_enough(&mut rustup("nightly")) && has_source(&mut rustup("nightly")) {
        return Some(Toolchain::Nightly);
    }
    debian::installed().map(Toolchain::Debian)
}

fn rustup(toolchain: &str, tool: &str) -> Command {
    let mut command = program("rustup");
    // Otherwise the toolchain that started this program would be used.
    command.env_remove("RUSTUP_TOOLCHAIN").args(["run", toolchain, tool]);
    command
}

impl Toolchain {
    fn name(&self) -> &'static str {
        match self {
            Self::Espup { .. } => "Espressif's compiler",
            Self::Current => "the current compiler",
            Self::Nightly => "rustup's nightly compiler",
            Self::Debian(_) => "Debian's newest compiler",
        }
    }

    /// A command that checks packages in a folder, still to be named, for some chips.
    fn cargo(&self, folder: &Path, chips: &[Chip]) -> Command {
        let mut command = match self {
            Self::Espup { .. } => rustup("esp", "cargo"),
            Self::Current => cargo(&[]),
            Self::Nightly => rustup("nightly", "cargo"),
            Self::Debian(toolchain) => toolchain.cargo(),
        };
        let verb = if matches!(self, Self::Espup { links: true }) { "build" } else { "check" };
        command.current_dir(folder).args([verb, "-Zbuild-std=core,alloc"]);
        for chip in chips {
            command.arg("--target").arg(chip.target());
        }
        command.arg("--target-dir").arg(target_dir(folder));
        if !matches!(self, Self::Espup { .. }) {
            self.read_only(&mut command, chips);
        }
        command
    }

    /// Makes the official compiler read everything and translate nothing.
    fn read_only(&self, command: &mut Command, chips: &[Chip]) {
        // One that is not a nightly builds the standard library only when told that it may.
        command.env("RUSTC_BOOTSTRAP", "1");
        for chip in chips {
            // Cargo translates the standard library even for a check. LLVM as it is knows little of Xtensa, and fails
            // at that depending on the optimisation; this takes its place.
            command.env(chip.flags_variable(), "-Zcodegen-backend=dummy");
        }
        // What nobody translates need not be prepared for it.
        for (name, value) in
            [("OPT_LEVEL", "0"), ("DEBUG", "none"), ("INCREMENTAL", "false"), ("PANIC", "abort")]
        {
            command.env(format!("CARGO_PROFILE_DEV_{name}"), value);
        }
    }
}

/// One for each workspace, for with one for all they take turns in making the standard library, and all after it, anew.
fn target_dir(folder: &Path) -> PathBuf {
    let name = if folder == root() { "crates" } else { "firmware" };
    root().join("target/xtensa").join(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_follow_from_names() {
        for chip in Chip::value_variants() {
            let value = chip.to_possible_value().map(|value| value.get_name().to_owned());
            assert_eq!(value.as_deref(), Some(chip.name()));
        }
        assert_eq!(Chip::Esp32s3.target(), "xtensa-esp32s3-none-elf");
        assert_eq!(Chip::Esp32s3.flags_variable(), "CARGO_TARGET_XTENSA_ESP32S3_NONE_ELF_RUSTFLAGS");
    }
}
