//! `cargo xtask test`: everything that is checked, in the order a person wants to hear of it.

use std::env;
use std::num::NonZeroUsize;
use std::process::Command;
use std::thread;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};

use crate::beside::Beside;
use crate::report::{Outcome, Report, Skip, skip_log};
use crate::shell::{cargo, find, line, program, root, run};
use crate::{chip, emulate, firmware, floors, fuzz, packages, schemathesis, tools, xtensa};

/// Options of `test`.
#[derive(Args)]
pub(crate) struct Options {
    /// Run only these checks
    #[arg(value_enum)]
    checks: Vec<Check>,
    /// Run what finds most mistakes in a few minutes: formatting, lints, floors, and tests that need no other program
    #[arg(long, conflicts_with_all = ["checks", "install", "no_install"])]
    quick: bool,
    /// Install missing tools: below target/tools, and as root on Debian also packages. Root on Debian does so
    /// anyway; on a terminal it is asked first
    #[arg(long)]
    install: bool,
    /// Install nothing
    #[arg(long, conflicts_with = "install")]
    no_install: bool,
    /// Fail when a check is skipped that an installation would make possible. CI=true means the same
    #[arg(long)]
    strict: bool,
    /// Seconds that each fuzzer runs
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    fuzz_seconds: u32,
    /// Part of another run, whose list of skipped tests is left alone
    #[arg(long, hide = true)]
    part: bool,
}

/// Power cuts of the check `emulate`; `cargo xtask emulate` by itself makes more.
const CUTS: u32 = 5;

/// The checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Check {
    /// No check: what the others need is installed
    Tools,
    /// Formatting
    Fmt,
    /// Lints
    Clippy,
    /// Arrows between files and between crates against the table of floors
    Floors,
    /// The documentation itself
    Doc,
    /// Licences, sources and duplicates of dependencies
    Deny,
    /// Known vulnerabilities of dependencies
    Advisories,
    /// Unit and integration tests, against Mosquitto, nginx, esptool and esp-idf-defs
    Tests,
    /// The tests of the server's store, its reconciler and its API once more, over PostgreSQL
    Postgres,
    /// The server's API against its own description, by Schemathesis
    Schemathesis,
    /// Examples in the documentation
    DocTests,
    /// Each crate's tarball, unpacked, compiled and tested by itself; with CI=true, --strict, or if named
    Packages,
    /// The crates of the device compile for a chip
    Chip,
    /// The firmware, also with TLS, and its example build for esp32c3 and esp32c6, and esptool accepts them
    Firmware,
    /// The crates of the device, and the firmware, are right for Xtensa too
    Xtensa,
    /// The firmware on an emulated ESP32-C3, where there is an emulator
    Emulate,
    /// Every reader of outside bytes against a fuzzer; with CI=true, --strict, or if named
    Fuzz,
}

impl Check {
    /// Runs it, and installs before what only this check needs.
    fn run(self, install: bool, fuzz_seconds: u32) -> Result<Outcome> {
        match self {
            Self::Tools => {
                tools::install(("a compiler for Xtensa", xtensa::install));
                Ok(Outcome::Passed)
            }
            Self::Fmt => passed(cargo(&["fmt", "--all", "--check"])),
            Self::Clippy => passed(cargo(&[
                "clippy",
                "--workspace",
                "--all-targets",
                "--all-features",
                "--",
                "-D",
                "warnings",
            ])),
            Self::Floors => floors::check().map(|()| Outcome::Passed),
            Self::Tests => tests(),
            Self::Postgres => postgres_tests(),
            Self::Schemathesis => schemathesis::check(),
            Self::DocTests => passed(cargo(&["test", "--workspace", "--all-features", "--doc"])),
            Self::Doc => {
                let mut command =
                    cargo(&["doc", "--workspace", "--all-features", "--no-deps", "--document-private-items"]);
                // A module's overview may name its private parts; outside of this house it is plain text.
                command.env("RUSTDOCFLAGS", "-D warnings -A rustdoc::private-intra-doc-links");
                passed(command)
            }
            Self::Packages => packages::check(),
            Self::Chip => chip::build(),
            Self::Firmware => firmware::check::check(),
            Self::Xtensa => xtensa::check_all(install),
            Self::Emulate => emulate::check(CUTS),
            Self::Deny => deny(),
            Self::Advisories => advisories(),
            Self::Fuzz => fuzz::run_all(fuzz_seconds, &[]),
        }
    }

    fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

/// Checks that need no tool but cargo: they run while the tools are fetched.
const WITHOUT_TOOLS: [Check; 4] = [Check::Fmt, Check::Clippy, Check::Floors, Check::Doc];
/// Checks that mostly keep one core busy, and run beside the tests, which mostly wait. [`Check::Emulate`] shares their build folder, and comes
/// after them.
const BESIDE_TESTS: [Check; 3] = [Check::Chip, Check::Firmware, Check::Xtensa];

/// Runs the checks.
pub(crate) fn test(options: &Options) -> Result<()> {
    let ci = env::var("CI").is_ok_and(|value| value == "true");
    let strict = options.strict || ci;
    let mut report = Report::new(strict, (!options.part).then(skip_log));
    if options.quick {
        report.check("fmt", || Check::Fmt.run(false, 0));
        report.check("clippy", || Check::Clippy.run(false, 0));
        report.check("floors", || Check::Floors.run(false, 0));
        report.check("tests without other programs", quick_tests);
        return report.finish();
    }
    let install = options.install || (tools::is_debian_root() && !options.no_install && tools::may_install());
    let all = options.checks.is_empty();
    let is_wanted = |check: &Check| {
        let by_default = match check {
            Check::Tools => return install && (!options.part || options.checks.contains(check)),
            Check::Fuzz | Check::Packages => all && strict,
            _ => all,
        };
        by_default || options.checks.contains(check)
    };
    let wanted: Vec<Check> = Check::value_variants().iter().copied().filter(is_wanted).collect();
    let run = Run { install, fuzz_seconds: options.fuzz_seconds };
    match all && strict {
        true => run.side_by_side(&wanted, &mut report),
        false => run.one_by_one(&wanted, &mut report),
    }
    report.finish()
}

/// Settings of a run that its checks have in common.
struct Run {
    install: bool,
    fuzz_seconds: u32,
}

impl Run {
    fn one_by_one(&self, checks: &[Check], report: &mut Report) {
        for check in checks {
            report.check(&check.name(), || check.run(self.install, self.fuzz_seconds));
        }
    }

    /// Two at a time where one leaves much of the processor to another: for a machine that nobody looks at meanwhile.
    fn side_by_side(&self, checks: &[Check], report: &mut Report) {
        let those =
            |some: &[Check]| checks.iter().copied().filter(|check| some.contains(check)).collect::<Vec<_>>();
        let tools = self.start("tools", &those(&[Check::Tools]));
        self.one_by_one(&those(&WITHOUT_TOOLS), report);
        if checks.contains(&Check::Tests) {
            report.check("compile the tests", build_tests);
        }
        if let Some(tools) = tools.transpose() {
            report.check("tools", || tools?.finish());
        }
        let beside = self.start("chips", &those(&BESIDE_TESTS));
        let last = [Check::Emulate];
        let others = [&[Check::Tools], &WITHOUT_TOOLS[..], &BESIDE_TESTS, &last].concat();
        let left: Vec<_> = checks.iter().copied().filter(|check| !others.contains(check)).collect();
        self.one_by_one(&left, report);
        if let Some(beside) = beside.transpose() {
            report.check("chips", || beside?.finish());
        }
        self.one_by_one(&those(&last), report);
    }

    fn start(&self, name: &str, checks: &[Check]) -> Result<Option<Beside>> {
        if checks.is_empty() {
            return Ok(None);
        }
        let mut arguments: Vec<String> = checks.iter().map(|check| check.name()).collect();
        let install = if self.install { "--install" } else { "--no-install" };
        arguments.extend([
            "--strict".into(),
            "--fuzz-seconds".into(),
            self.fuzz_seconds.to_string(),
            install.into(),
        ]);
        Beside::start(name, &arguments).map(Some)
    }
}

fn passed(mut command: Command) -> Result<Outcome> {
    run(&mut command)?;
    Ok(Outcome::Passed)
}

/// All tests, as they are compiled and as they are run.
fn all_tests() -> Command {
    match find("cargo-nextest") {
        Some(_) => cargo(&["nextest", "run", "--workspace", "--all-features"]),
        None => cargo(&["test", "--workspace", "--all-features", "--lib", "--bins", "--tests"]),
    }
}

/// Compiles the tests, which needs no tool either: they are fetched meanwhile.
fn build_tests() -> Result<Outcome> {
    let mut command = all_tests();
    command.arg("--no-run");
    passed(command)
}

fn tests() -> Result<Outcome> {
    let mut command = all_tests();
    if find("cargo-nextest").is_some() {
        command.args(["--test-threads", &threads()]);
    }
    tools::name_to_tests(&mut command);
    command.env("OTARU_SKIP_LOG", skip_log());
    passed(command)
}

/// Tests at once: more than there are cores, as half of their time they wait for each other's peers and for time itself.
fn threads() -> String {
    let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    (cores + 2).to_string()
}

/// The server's tests over PostgreSQL, which `otaru-testing`'s program starts for them.
fn postgres_tests() -> Result<Outcome> {
    if find("cargo-nextest").is_none() {
        let reason = "no cargo-nextest: cargo install cargo-nextest --locked".to_owned();
        return Ok(Outcome::Skipped(Skip { reason, avoidable: true }));
    }
    if find("psql").is_none() {
        let reason = "no PostgreSQL: apt-get install postgresql".to_owned();
        return Ok(Outcome::Skipped(Skip { reason, avoidable: true }));
    }
    // As the tests before it, so that next to nothing is built for it.
    run(&mut cargo(&["build", "--quiet", "--workspace", "--all-features", "--example", "with-postgres"]))?;
    let mut command = program(root().join("target/debug/examples/with-postgres"));
    command.args(["cargo", "nextest", "run", "--workspace", "--all-features", "-E", POSTGRES_TESTS]);
    command.args(["--test-threads", &threads()]);
    tools::name_to_tests(&mut command);
    command.env("OTARU_SKIP_LOG", skip_log());
    passed(command)
}

/// Tests that use a database through [`Db`](../../crates/otaru-server/src/db/mod.rs).
const POSTGRES_TESTS: &str = "package(otaru-server) and (binary(reconcile) or binary(api))";

/// Packages whose integration tests start servers, brokers and browsers.
const LARGE: [&str; 2] = ["otaru", "otaru-server"];

/// All tests of the small packages but for those that cut power everywhere, and the unit tests of [`LARGE`] ones.
fn quick_tests() -> Result<Outcome> {
    let nextest = find("cargo-nextest").is_some();
    let first: &[&str] = if nextest { &["nextest", "run"] } else { &["test"] };
    let mut small = cargo(first);
    small.args(["--workspace", "--all-features", "--lib", "--bins", "--tests"]);
    small.args(LARGE.iter().flat_map(|package| ["--exclude", *package]));
    match nextest {
        true => small.args(["-E", "not binary(power_cut)"]),
        false => small.args(["--", "--skip", "power_cut_"]),
    };
    let mut large = cargo(first);
    large.args(["--all-features", "--lib", "--bins"]);
    large.args(LARGE.iter().flat_map(|package| ["--package", *package]));
    for command in [&mut small, &mut large] {
        tools::name_to_tests(command);
        command.env("OTARU_SKIP_LOG", skip_log());
        run(command)?;
    }
    Ok(Outcome::Passed)
}

fn deny() -> Result<Outcome> {
    let Some(mut command) = tools::deny() else { return Ok(no_deny()) };
    command.args(["check", "bans", "licenses", "sources"]);
    passed(command)
}

fn advisories() -> Result<Outcome> {
    let Some(mut command) = tools::deny() else { return Ok(no_deny()) };
    command.args(["check", "advisories"]);
    println!("$ {}", line(&command));
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    print!("{}{said}", String::from_utf8_lossy(&output.stdout));
    if output.status.success() {
        return Ok(Outcome::Passed);
    }
    if said.contains("failed to fetch advisory database") {
        let reason = "the database of advisories cannot be fetched from here; run it again online".to_owned();
        return Ok(Outcome::Skipped(Skip { reason, avoidable: false }));
    }
    bail!("{} ended with {}", line(&command), output.status)
}

fn no_deny() -> Outcome {
    Outcome::Skipped(Skip { reason: format!("no cargo-deny: {}", tools::deny_remedy()), avoidable: true })
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::shell::output;

    /// The first of the README's two commands.
    #[test]
    fn a_plain_cargo_run_is_otaru() {
        let text = output(&mut cargo(&["metadata", "--format-version", "1", "--no-deps"])).unwrap();
        let metadata: Value = serde_json::from_str(&text).unwrap();
        let meant = metadata["workspace_default_members"].as_array().unwrap();
        let packages = metadata["packages"].as_array().unwrap().iter();
        let targets = packages
            .filter(|package| meant.contains(&package["id"]))
            .flat_map(|package| package["targets"].as_array().unwrap());
        let programs: Vec<&Value> =
            targets.filter(|target| target["kind"][0] == "bin").map(|target| &target["name"]).collect();
        assert_eq!(programs, ["otaru"], "`cargo run` would have to be told which one");
    }
}
