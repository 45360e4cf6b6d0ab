//! Keeps count of the checks: what passed, what failed, and, loudly, what was not checked.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::shell::root;

/// Something that was not checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Skip {
    /// Why, and what to do about it.
    pub(crate) reason: String,
    /// Whether an installation would have made it possible; such a skip fails a strict run.
    pub(crate) avoidable: bool,
}

/// Outcome of a check, unless it failed.
pub(crate) enum Outcome {
    Passed,
    Skipped(Skip),
}

/// All checks of a run.
pub(crate) struct Report {
    start: Instant,
    rows: Vec<(String, Duration, Result<Outcome>)>,
    strict: bool,
    skip_log: Option<PathBuf>,
}

/// The file tests append a line to when they cannot run: `<test>: <reason and remedy>`. They find its name in
/// `OTARU_SKIP_LOG`.
pub(crate) fn skip_log() -> PathBuf {
    root().join("target/skipped-tests.txt")
}

impl Report {
    /// An empty report, with an empty log of skipped tests if it has one. A strict one fails when something avoidable was skipped.
    pub(crate) fn new(strict: bool, skip_log: Option<PathBuf>) -> Self {
        if let Some(log) = &skip_log {
            let _ = fs::remove_file(log);
        }
        Self { start: Instant::now(), rows: Vec::new(), strict, skip_log }
    }

    /// Runs a check and notes how it went.
    pub(crate) fn check(&mut self, name: &str, check: impl FnOnce() -> Result<Outcome>) {
        println!("\n=== {name}");
        let start = Instant::now();
        let outcome = check();
        match &outcome {
            Ok(Outcome::Passed) => {}
            Ok(Outcome::Skipped(skip)) => println!("SKIPPED: {}", skip.reason),
            Err(error) => println!("FAILED: {error:#}"),
        }
        self.rows.push((name.to_owned(), start.elapsed(), outcome));
    }

    /// Prints the summary.
    ///
    /// # Errors
    /// Returns an error if a check failed, or if the run is strict and a check was skipped that could have run.
    pub(crate) fn finish(self) -> Result<()> {
        println!("\n=== Summary");
        let mut skips = Vec::new();
        for (name, time, outcome) in &self.rows {
            let word = match outcome {
                Ok(Outcome::Passed) => "ok",
                Ok(Outcome::Skipped(skip)) => {
                    skips.push((name.clone(), skip.clone()));
                    "SKIPPED"
                }
                Err(_) => "FAILED",
            };
            println!("{word:>8} {:>7.1} s  {name}", time.as_secs_f64());
        }
        let skipped_tests = self.skip_log.and_then(|log| fs::read_to_string(log).ok());
        for line in skipped_tests.unwrap_or_default().lines() {
            let (name, reason) = line.split_once(": ").unwrap_or((line, "no reason given"));
            skips.push((name.to_owned(), Skip { reason: reason.to_owned(), avoidable: true }));
        }
        skips.dedup();
        if !skips.is_empty() {
            println!("\nNOT CHECKED:");
        }
        for (name, skip) in &skips {
            println!("  {name}: {}", skip.reason);
        }
        println!("\n{:.0} s in all", self.start.elapsed().as_secs_f64());

        let failed = self.rows.iter().filter(|(_, _, outcome)| outcome.is_err()).count();
        let avoidable = skips.iter().filter(|(_, skip)| skip.avoidable).count();
        if failed > 0 {
            bail!("{failed} of {} checks failed", self.rows.len());
        }
        if self.strict && avoidable > 0 {
            bail!("{avoidable} checks were skipped that need not be; see NOT CHECKED");
        }
        if skips.is_empty() {
            println!("All checks passed.");
        } else {
            println!("What was checked passed; {} skipped, see NOT CHECKED.", skips.len());
        }
        Ok(())
    }
}
