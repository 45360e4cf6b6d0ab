//! Compiling what runs on a chip for a chip, without std.
//!
//! Three ways lead there, in the order they are tried: the target's own standard library from rustup; the
//! standard library's source from rustup, which only a nightly compiler builds; Debian's compiler with
//! Debian's copy of that source.

use std::env;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::report::{Outcome, Skip};
use crate::shell::{cargo, output, program, run, works};

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
    let Some(mut command) = cargo_build() else {
        return Ok(Outcome::Skipped(Skip { reason: remedy(), avoidable: true }));
    };
    for package in ["otaru-format", "otaru-lzma", "otaru-device"] {
        command.args(["--package", package]);
    }
    run(command.args(["--lib", "--target-dir", "target/chip"]))?;
    Ok(Outcome::Passed)
}

/// `cargo build` for [`TARGET`], if the machine can.
pub(crate) fn cargo_build() -> Option<Command> {
    let mut command = match way()? {
        Way::Target => cargo(&["build"]),
        Way::Nightly => rustup(&["run", "nightly", "cargo", "build", "-Zbuild-std=core,alloc"]),
        Way::Debian => debian(),
    };
    command.args(["--target", TARGET]);
    Some(command)
}

/// What to do where [`cargo_build`] is nothing.
pub(crate) fn remedy() -> String {
    let packages = PACKAGES.join(" ");
    format!(
        "no standard library for {TARGET}: rustup target add {TARGET} (or, on Debian: apt-get install {packages})"
    )
}

/// Whether nothing needs to be installed.
pub(crate) fn possible() -> bool {
    way().is_some()
}

fn way() -> Option<Way> {
    let target = output(program("rustc").args(["--print", "target-libdir", "--target", TARGET]));
    if target.is_some_and(|folder| Path::new(&folder).is_dir()) {
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

fn debian() -> Command {
    let mut command = program("/usr/bin/cargo");
    for name in ["RUSTUP_TOOLCHAIN", "LD_LIBRARY_PATH", "RUSTFLAGS", "RUSTC_WRAPPER"] {
        command.env_remove(name);
    }
    // A compiler that is not a nightly builds the standard library only when told that it may.
    command.env("RUSTC_BOOTSTRAP", "1").env("RUSTC", "/usr/bin/rustc");
    command.args(["build", "-Zbuild-std=core,alloc"]);
    // Debian's compiler has no linker for chips with it; rustup's has, where it is not asked for.
    let sysroot = output(program("rustc").args(["--print", "target-libdir"]));
    let linker = sysroot.map(|lib| Path::new(&lib).with_file_name("bin")).filter(|bin| bin.is_dir());
    let path = env::var_os("PATH").unwrap_or_default();
    if let Ok(path) = env::join_paths(env::split_paths(&path).chain(linker)) {
        command.env("PATH", path);
    }
    command
}
