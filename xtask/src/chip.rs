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
const COMPILER: [&str; 3] = ["rustc-web", "cargo-web", "rust-web-src"];
/// The linker's.
const LINKER: &str = "lld";
/// Where a compiler keeps the sources of its standard library, under its own folder.
const SOURCES: &str = "lib/rustlib/src/rust/library";

/// Compilers that this machine has.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Toolchain {
    Target,
    Nightly,
    Debian(Linker),
}

/// A linker for chips. The compiler wants `rust-lld`, which comes with rustup and not with every compiler of Debian's.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Linker {
    /// `rust-lld`, where the compiler looks for it.
    OnPath,
    /// `rust-lld`, in this folder.
    In(PathBuf),
    /// The same program as LLVM's own package has it.
    Lld(PathBuf),
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
        Toolchain::Target => cargo(&[subcommand]),
        Toolchain::Nightly => rustup(&["run", "nightly", "cargo", subcommand, "-Zbuild-std=core,alloc"]),
        Toolchain::Debian(linker) => debian(subcommand, target, linker),
    };
    command.args(["--target", target]);
    Some(command)
}

/// Returns the folder of the standard library's sources, where it is compiled with the program; one that comes compiled names none of this
/// machine.
pub(crate) fn sources(target: &str) -> Option<PathBuf> {
    let root = match way(target)? {
        Toolchain::Target => return None,
        Toolchain::Nightly => output(&mut rustup(&["run", "nightly", "rustc", "--print", "sysroot"]))?,
        Toolchain::Debian(_) => output(program("/usr/bin/rustc").args(["--print", "sysroot"]))?,
    };
    Some(PathBuf::from(root).join(SOURCES))
}

/// Whether there is such a cargo.
pub(crate) fn can_compile(target: &str) -> bool {
    way(target).is_some()
}

/// Tells what to do where no cargo can compile for a target.
pub(crate) fn remedy(target: &str) -> String {
    format!(
        "no standard library for {target}: rustup target add {target} (or, on Debian: apt-get install {})",
        packages().join(" ")
    )
}

/// Debian's packages with which it can.
pub(crate) fn packages() -> Vec<&'static str> {
    COMPILER.into_iter().chain([LINKER]).collect()
}

/// Whether nothing needs to be installed.
pub(crate) fn possible() -> bool {
    way(TARGET).is_some()
}

fn way(target: &str) -> Option<Toolchain> {
    let libraries = output(program("rustc").args(["--print", "target-libdir", "--target", target]));
    if libraries.is_some_and(|folder| Path::new(&folder).is_dir()) {
        return Some(Toolchain::Target);
    }
    let nightly = output(&mut rustup(&["run", "nightly", "rustc", "--print", "sysroot"]));
    if nightly.is_some_and(|root| Path::new(&root).join(SOURCES).is_dir()) {
        return Some(Toolchain::Nightly);
    }
    let installed = |package: &str| works(program("dpkg").args(["--status", package]));
    COMPILER.into_iter().all(installed).then(linker).flatten().map(Toolchain::Debian)
}

fn rustup(arguments: &[&str]) -> Command {
    let mut command = program("rustup");
    // Otherwise the toolchain that started this program would be used.
    command.env_remove("RUSTUP_TOOLCHAIN").args(arguments);
    command
}

fn debian(subcommand: &str, target: &str, linker: Linker) -> Command {
    let mut command = program("/usr/bin/cargo");
    match linker {
        Linker::OnPath => {}
        Linker::In(folder) => {
            let path = env::var_os("PATH").unwrap_or_default();
            if let Ok(path) = env::join_paths(env::split_paths(&path).chain([folder])) {
                command.env("PATH", path);
            }
        }
        Linker::Lld(file) => _ = command.env(linker_variable(target), file),
    }
    for name in ["RUSTUP_TOOLCHAIN", "LD_LIBRARY_PATH", "RUSTFLAGS", "RUSTC_WRAPPER"] {
        command.env_remove(name);
    }
    // A compiler that is not a nightly builds the standard library only when told that it may.
    command.env("RUSTC_BOOTSTRAP", "1").env("RUSTC", "/usr/bin/rustc");
    command.args([subcommand, "-Zbuild-std=core,alloc"]);
    command
}

/// The name under which cargo takes a target's linker from the environment.
fn linker_variable(target: &str) -> String {
    format!("CARGO_TARGET_{}_LINKER", target.to_uppercase().replace('-', "_"))
}

/// The linker on the PATH, or rustup's, or Debian's.
fn linker() -> Option<Linker> {
    let rustup = || Some(Linker::In(rustup_linker()?));
    let lld = || find("ld.lld").or_else(|| find("lld")).map(Linker::Lld);
    find("rust-lld").map(|_| Linker::OnPath).or_else(rustup).or_else(lld)
}

/// The folder of rustup's linker.
fn rustup_linker() -> Option<PathBuf> {
    let root = output(program("rustc").args(["--print", "sysroot"]))?;
    let hosts = PathBuf::from(root).join("lib/rustlib").read_dir().ok()?;
    let mut folders = hosts.filter_map(|host| Some(host.ok()?.path().join("bin")));
    folders.find(|folder| folder.join("rust-lld").is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_remedy_names_a_linker() {
        assert!(remedy(TARGET).ends_with("apt-get install rustc-web cargo-web rust-web-src lld)"));
    }

    #[test]
    fn cargo_is_told_the_linker() {
        assert_eq!(linker_variable(TARGET), "CARGO_TARGET_RISCV32IMC_UNKNOWN_NONE_ELF_LINKER");
        let command = debian("build", TARGET, Linker::Lld(PathBuf::from("/usr/bin/ld.lld")));
        let told = command.get_envs().find(|(name, _)| *name == linker_variable(TARGET).as_str());
        assert_eq!(told.and_then(|(_, value)| value), Some("/usr/bin/ld.lld".as_ref()));
    }
}
