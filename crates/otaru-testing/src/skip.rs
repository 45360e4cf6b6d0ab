//! Tests that cannot be run say so.

use std::env;
use std::fs::OpenOptions;
use std::io::Write as _;

/// Tells that a test could not run, to whoever reads its output and to the summary of `cargo xtask test`, which names a file in
/// `OTARU_SKIP_LOG`.
pub fn skip(test: &str, reason: &str) {
    let line = format!("{test}: {reason}");
    eprintln!("SKIPPED: {line}");
    let log = env::var_os("OTARU_SKIP_LOG");
    let file = log.and_then(|log| OpenOptions::new().create(true).append(true).open(log).ok());
    if let Some(mut file) = file {
        // One write, for tests run side by side.
        let _ = file.write_all(format!("{line}\n").as_bytes());
    }
}

/// Tells that this test, or a part of it, could not run.
pub fn skipped(reason: &str) {
    skip(std::thread::current().name().unwrap_or("a test"), reason);
}
