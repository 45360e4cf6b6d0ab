//! Finding the other tools, and saying loudly when one is missing.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use otaru_testing::skip;

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
