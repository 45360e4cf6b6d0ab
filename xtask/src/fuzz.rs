//! `cargo xtask fuzz`: the fuzzers in `fuzz/`, each for a while, beginning with the kept corpus.
//!
//! Inputs that a fuzzer finds interesting go below `target/fuzz`, so that the kept corpus stays small; what makes it
//! fail goes to `fuzz/artifacts`, and its message says how to run that again.

use std::fs;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::Command;
use std::thread;

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::report::{Outcome, Skip};
use crate::shell::{find, output, program, root, run, works};
use crate::tools;

/// Options of `fuzz`.
#[derive(Args)]
pub(crate) struct Options {
    /// Seconds that each fuzzer runs
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// Only these fuzzers
    targets: Vec<String>,
}

/// Runs the fuzzers, and fails where they cannot run.
pub(crate) fn fuzz(options: &Options) -> Result<()> {
    match run_all(options.seconds, &options.targets)? {
        Outcome::Passed => Ok(()),
        Outcome::Skipped(skip) => bail!("{}", skip.reason),
    }
}

/// Runs these fuzzers, or all, for so long each, if the machine can.
pub(crate) fn run_all(seconds: u32, only: &[String]) -> Result<Outcome> {
    let missing = |reason: String| Ok(Outcome::Skipped(Skip { reason, avoidable: true }));
    if find("cargo-fuzz").is_none() {
        return missing(format!("no cargo-fuzz: {}", tools::fuzz_remedy()));
    }
    if !works(program("c++").arg("--version")) {
        return missing("no C++ compiler, which libFuzzer needs (on Debian: apt-get install g++)".to_owned());
    }
    let all = targets()?;
    if let Some(unknown) = only.iter().find(|name| !all.contains(name)) {
        bail!("there is no fuzzer {unknown}; there are {}", all.join(", "));
    }
    // All at once, so that none of them waits for a compiler while its time runs.
    run(cargo_fuzz(&["build"]).args(BUILD))?;
    let wanted: Vec<&String> = all.iter().filter(|target| only.is_empty() || only.contains(target)).collect();
    let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    for some in wanted.chunks(cores) {
        thread::scope(|scope| {
            let running: Vec<_> =
                some.iter().map(|target| scope.spawn(|| run_one(target, seconds))).collect();
            some.iter().zip(running).try_for_each(|(target, running)| match running.join() {
                Ok(result) => result.with_context(|| format!("the fuzzer {target} failed")),
                Err(_) => bail!("the fuzzer {target} could not be watched"),
            })
        })?;
    }
    Ok(Outcome::Passed)
}

/// Options of every build of a fuzzer. Nothing here is unsafe code: what there is to find are panics and broken promises, also
/// without a sanitizer.
const BUILD: [&str; 4] = ["--sanitizer", "none", "--target-dir", "target/fuzz"];

/// The fuzzers' names: a file each.
fn targets() -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(root().join("fuzz/fuzz_targets"))? {
        let path = entry?.path();
        names.extend(path.file_stem().map(|name| name.to_string_lossy().into_owned()));
    }
    names.sort();
    Ok(names)
}

fn run_one(target: &str, seconds: u32) -> Result<()> {
    let found = root().join("target/fuzz/found").join(target);
    fs::create_dir_all(&found)?;
    let mut command = cargo_fuzz(&["run", target]);
    command.arg(found).arg(PathBuf::from("fuzz/corpus").join(target));
    command.args(BUILD);
    command.args([
        "--",
        &format!("-max_total_time={seconds}"),
        "-timeout=10",
        "-verbosity=0",
        "-print_final_stats=1",
    ]);
    run(&mut command)
}

/// cargo-fuzz, with a nightly compiler or one that is told that it may take unstable options.
fn cargo_fuzz(arguments: &[&str]) -> Command {
    let mut command = program(find("cargo-fuzz").unwrap_or_else(|| "cargo-fuzz".into()));
    let version = output(program("rustc").arg("--version")).unwrap_or_default();
    if !version.contains("nightly") {
        command.env("RUSTC_BOOTSTRAP", "1");
    }
    command.args(arguments);
    command
}
