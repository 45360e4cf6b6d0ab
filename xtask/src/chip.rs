//! Compiling what runs on a chip for a chip, without std.
//!
//! Three ways lead there, in the order they are tried: the target's own standard library from rustup; the
//! standard library's source from rustup, which only a nightly compiler builds; Debian's compiler with
//! Debian's copy of that source.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::report::{Outcome, Skip};
use crate::shell::{cargo, find, output, program, run, works};

/// A chip without atomics and without a floating-point unit: what compiles for it compiles for the others.
pub(crate) const TARGET: &str = "riscv32imc-unknown-none-elf";
/// Debian's packages for the third way.
pub(crate) const PACKAGES: [&str; 3] = ["rustc-web", "cargo-web", "rust-web-src"];

/// What this machine can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Target,
    Nightly,
    Debian,
}

/// `cargo xtask chip-check`.
pub(crate) fn check() -> Result<()> {
    match build()? {
        Outcome::Passed => Ok(()),
        Outcome::Skipped(skip) => anyhow::bail!("{}", skip.reason),
    }
}

/// Compiles, if the machine can.
pub(crate) fn build() -> Result<Outcome> {
    let Some(mut command) = cargo_for(TARGET, "build") else {
        return Ok(Outcome::Skipped(Skip { reason: remedy(TARGET), avoidable: true }));
    };
    for package in ["otaru-format", "otaru-lzma", "otaru-delta", "otaru-device"] {
        command.args(["--package", package]);
    }
    command.arg("--lib");
    run(command.args(["--target-dir", "target/chip"]))?;
    Ok(Outcome::Passed)
}

/// A cargo that can compile for a target with a RISC-V core, given its subcommand; `None` if there is none.
pub(crate) fn cargo_for(target: &str, subcommand: &str) -> Option<Command> {
    let mut command = match way(target)? {
        Way::Target => cargo(&[subcommand]),
        Way::Nightly => rustup(&["run", "nightly", "cargo", subcommand, "-Zbuild-std=core,alloc"]),
        Way::Debian => debian(subcommand),
    };
    command.args(["--target", target]);
    Some(command)
}

/// Whether there is such a cargo.
pub(crate) fn can_compile(target: &str) -> bool {
    way(target).is_some()
}

/// What to do where no cargo can compile for a target.
pub(crate) fn remedy(target: &str) -> String {
    format!(
        "no standard library for {target}: rustup target add {target} (or, on Debian: apt-get install {})",
        PACKAGES.join(" ")
    )
}

/// Whether nothing needs to be installed.
pub(crate) fn possible() -> bool {
    way(TARGET).is_some()
}

fn way(target: &str) -> Option<Way> {
    let libraries = output(program("rustc").args(["--print", "target-libdir", "--target", target]));
    if libraries.is_some_and(|folder| Path::new(&folder).is_dir()) {
        return Some(Way::Target);
    }
    let nightly = output(&mut rustup(&["run", "nightly", "rustc", "--print", "sysroot"]));
    if nightly.is_some_and(|root| Path::new(&root).join("lib/rustlib/src/rust/library").is_dir()) {
        return Some(Way::Nightly);
    }
    let installed = |package: &str| works(program("dpkg").args(["--status", package]));
    PACKAGES.into_iter().all(installed).then_some(Way::Debian)
}

fn rustup(arguments: &[&str]) -> Command {
    let mut command = program("rustup");
    // Otherwise the toolchain that started this program would be used.
    command.env_remove("RUSTUP_TOOLCHAIN").args(arguments);
    command
}

fn debian(subcommand: &str) -> Command {
    let mut command = program("/usr/bin/cargo");
    if let Some(folder) = linker() {
        let path = env::var_os("PATH").unwrap_or_default();
        if let Ok(path) = env::join_paths(env::split_paths(&path).chain([folder])) {
            command.env("PATH", path);
        }
    }
    for name in ["RUSTUP_TOOLCHAIN", "LD_LIBRARY_PATH", "RUSTFLAGS", "RUSTC_WRAPPER"] {
        command.env_remove(name);
    }
    // A compiler that is not a nightly builds the standard library only when told that it may.
    command.env("RUSTC_BOOTSTRAP", "1").env("RUSTC", "/usr/bin/rustc");
    command.args([subcommand, "-Zbuild-std=core,alloc"]);
    command
}

/// The folder of rustup's linker, unless there is one on the PATH: Debian's compiler comes without.
fn linker() -> Option<PathBuf> {
    if find("rust-lld").is_some() {
        return None;
    }
    let root = output(program("rustc").args(["--print", "sysroot"]))?;
    let hosts = PathBuf::from(root).join("lib/rustlib").read_dir().ok()?;
    let mut folders = hosts.filter_map(|host| Some(host.ok()?.path().join("bin")));
    folders.find(|folder| folder.join("rust-lld").is_file())
}
