//! The check `schemathesis`: the server's API against its own description, by a tool that makes requests up from it.
//!
//! Schemathesis sends what the description allows, what it forbids, and requests one after the other that belong together.
//! Nothing may be answered with an error of the server's, or otherwise than the description says. It runs with
//! `schemathesis.toml`.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::report::{Outcome, Skip};
use crate::serve::Server;
use crate::shell::{cargo, find, program, root, run};
use crate::tools;

/// Time for which requests are made up, in seconds.
const SECONDS: &str = "60";
/// Seed: so that requests are much the same in every run.
const SEED: &str = "1";
/// Operations that must have been done when it is over; otherwise it did not get far enough to find anything.
const DONE: [&str; 6] = [
    "token.create",
    "fleet-key.create",
    "device.change",
    "release.change",
    "rollout.create",
    "device.retire",
];

/// Runs it against a server of its own.
///
/// # Errors
/// Returns an error if an answer differs from the OpenAPI description, or if an action in [`DONE`] never succeeded.
pub(crate) fn check() -> Result<Outcome> {
    let Some(schemathesis) = find("schemathesis") else {
        let reason = format!("no schemathesis: {}", tools::schemathesis_remedy());
        return Ok(Outcome::Skipped(Skip { reason, avoidable: true }));
    };
    // Unlike a released one, this server would not overlook a number that overflows. It is the one that the tests use: a build without
    // them has other features of third-party crates, and would compile most of the workspace once more.
    run(&mut cargo(&[
        "test",
        "--quiet",
        "--workspace",
        "--all-features",
        "--lib",
        "--bins",
        "--tests",
        "--no-run",
    ]))?;
    let folder = root().join("target/schemathesis");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder)?;
    let server = Server::start(&root().join("target/debug/otaru"), &folder.join("data"))?;
    furnish(&server, &folder)?;
    let known = entries(&server)?;
    let mut command: Command = program(schemathesis);
    command.arg("--config-file").arg(root().join("xtask/schemathesis.toml"));
    command.arg("run").arg(format!("{}/api/v1/openapi.json", server.url));
    command.args(["--max-time", SECONDS, "--seed", SEED, "--request-timeout", "10"]);
    // Python 3.11 counts how deep a syntax tree is once for all threads, and Hypothesis parses its own source as it goes: with two
    // workers now and then, with eight always, one stumbles with "AST constructor recursion depth mismatch".
    command.args(["--workers", "1"]);
    command.args(["--continue-on-failure", "--no-color"]);
    command.env("OTARU_TOKEN", &server.token).current_dir(&folder);
    run(&mut command)?;
    let entries = entries(&server)?;
    let new = entries.get(..entries.len() - known.len()).unwrap_or_default();
    for action in DONE {
        ensure!(new.iter().any(|entry| entry == action), "it never got as far as {action}");
    }
    Ok(Outcome::Passed)
}

/// One of each thing that there can be.
fn furnish(server: &Server, folder: &Path) -> Result<()> {
    let file = folder.join("lamp.bin").display().to_string();
    let make =
        ["image", "make", "--chip", "esp32c3", "--project", "lamp", "--version", "1.0.0", "--size", "64K"];
    server.user(&[&make[..], &["-o", &file]].concat())?;
    for device in ["lamp", "old"] {
        server.user(&["device", "add", device])?;
    }
    server.user(&["release", "upload", &file])?;
    server.user(&["rollout", "create", "1", "--draft"])?;
    Ok(())
}

/// Lists what was done, the newest first.
fn entries(server: &Server) -> Result<Vec<String>> {
    let (mut all, mut from) = (Vec::new(), String::new());
    loop {
        let page: Value = serde_json::from_str(&server.get(&format!("/api/v1/audit?limit=1000{from}"))?)?;
        let items = page["items"].as_array().with_context(|| format!("no audit log: {page}"))?;
        all.extend(items.iter().filter_map(|entry| entry["action"].as_str()).map(str::to_owned));
        match page["next"].as_str() {
            Some(next) => from = format!("&cursor={next}"),
            None => return Ok(all),
        }
    }
}
