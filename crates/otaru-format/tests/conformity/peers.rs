//! Finding the other tools, and saying loudly when one is missing.

use std::env;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Tells that a test could not run, to whoever reads its output and to the summary of `cargo xtask test`.
pub(crate) fn skip(test: &str, reason: &str) {
    let line = format!("{test}: {reason}");
    eprintln!("SKIPPED: {line}");
    let log = env::var_os("OTARU_SKIP_LOG");
    let file = log.and_then(|log| OpenOptions::new().create(true).append(true).open(log).ok());
    if let Some(mut file) = file {
        // One write, for tests run side by side.
        let _ = file.write_all(format!("{line}\n").as_bytes());
    }
}

/// A program: where the variable says, among the tools `cargo xtask test` fetches, or on the PATH.
fn find(variable: &str, name: &str) -> Option<PathBuf> {
    if let Some(named) = env::var_os(variable) {
        return Some(named.into());
    }
    let fetched = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tools/venv/bin");
    let path = env::var_os("PATH").unwrap_or_default();
    std::iter::once(fetched)
        .chain(env::split_paths(&path))
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

/// esptool, or a skip.
pub(crate) fn esptool(test: &str) -> Option<Command> {
    let found = find("OTARU_ESPTOOL", "esptool");
    if found.is_none() {
        skip(test, "no esptool: cargo xtask test --install, or pip install esptool");
    }
    found.map(Command::new)
}

/// A Python that knows esp-idf-defs, or a skip.
pub(crate) fn python_with_idf_defs(test: &str) -> Option<Command> {
    let knows = |python: &PathBuf| {
        let output = Command::new(python).args(["-c", "import esp_idf_defs"]).output();
        output.is_ok_and(|output| output.status.success())
    };
    let found = find("OTARU_IDF_PYTHON", "python3").filter(knows);
    if found.is_none() {
        skip(test, "no esp-idf-defs: cargo xtask test --install, or pip install esp-idf-defs");
    }
    found.map(Command::new)
}

/// Real firmware: every `.bin` in the folders below `OTARU_FIRMWARE_PAIRS`; none when that is not set.
pub(crate) fn real_firmware() -> Vec<PathBuf> {
    let Some(folder) = env::var_os("OTARU_FIRMWARE_PAIRS") else { return Vec::new() };
    let entries = |folder: &Path| {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let files = entries(Path::new(&folder)).into_iter().flat_map(|folder| entries(&folder));
    let mut firmware: Vec<_> =
        files.filter(|file| file.extension().is_some_and(|ext| ext == "bin")).collect();
    firmware.sort();
    firmware
}
