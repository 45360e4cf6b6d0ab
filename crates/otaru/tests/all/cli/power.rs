//! Files and folders that have to be there after a loss of power: with strace, whether each new name is brought to the disk.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use otaru_testing::{have, program, run};

use crate::common::{otaru, path};

/// The same command, whose calls of the system that matter are written down, a file for each thread.
fn traced(command: &Command, notes: &Path) -> Command {
    let mut traced = program("strace");
    // Those with a question mark not every processor has.
    let calls = "trace=?rename,?renameat,renameat2,?link,linkat,?mkdir,mkdirat,fsync";
    traced.args(["-ff", "-y", "-s", "999", "-e", calls, "-o"]);
    traced.arg(notes.join("calls")).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => traced.env(name, value),
            None => traced.env_remove(name),
        };
    }
    traced
}

/// The text between the last two quotation marks of a line: the name that a file has got.
fn last_name(line: &str) -> Option<PathBuf> {
    let (before, _) = line.rsplit_once('"')?;
    before.rsplit_once('"').map(|(_, name)| name.into())
}

/// Names in a folder that files and folders have got, each of which was brought to the disk by the thread that gave it.
fn synced_names(notes: &Path, folder: &Path) -> Vec<PathBuf> {
    let mut names = Vec::new();
    for thread in std::fs::read_dir(notes).unwrap() {
        let calls = std::fs::read_to_string(thread.unwrap().path()).unwrap();
        let mut calls = calls.lines();
        while let Some(call) = calls.next() {
            let gives_name = ["rename", "link", "mkdir"].iter().any(|known| call.starts_with(known));
            let is_new = gives_name && call.ends_with("= 0");
            // What is in `incoming` is nobody's yet, and goes with the next start.
            let lasts = |name: &PathBuf| name.starts_with(folder) && !name.ends_with("incoming");
            let Some(name) = last_name(call).filter(|name| is_new && lasts(name)) else { continue };
            let synced = format!("<{}>", name.parent().unwrap().display());
            assert!(
                calls.clone().any(|later| later.starts_with("fsync") && later.contains(&synced)),
                "{} may have its old contents after a loss of power",
                name.display()
            );
            names.push(name);
        }
    }
    names
}

#[test]
fn a_key_that_was_made_is_there_after_a_loss_of_power() {
    if !have(&["strace"]) {
        return;
    }
    let (dir, notes) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let key = path(dir.path(), "key.pem");
    run(traced(&otaru(&["keygen", "-o", &key]), notes.path())).with_code(0);
    assert!(synced_names(notes.path(), dir.path()).contains(&PathBuf::from(key)));
}

#[test]
fn what_a_server_wrote_is_there_after_a_loss_of_power() {
    if !have(&["strace"]) {
        return;
    }
    let (dir, notes) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    // It ends by itself, for want of a port, once the files are written.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = listener.local_addr().unwrap();
    let mut serve = otaru(&["serve", "--tls-dev", "--data", &path(dir.path(), "data")]);
    serve.args(["--https", &taken.to_string()]);
    for listener in ["--http", "--mqtt-listen", "--mqtts-listen"] {
        serve.args([listener, "127.0.0.1:0"]);
    }
    run(traced(&serve, notes.path())).with_code(1).tells("HTTPS");
    let names = synced_names(notes.path(), dir.path());
    for file in ["tls", "tls/ca.pem", "tls/ca.key", "tls/server.pem"] {
        let file = dir.path().join("data").join(file);
        assert!(names.contains(&file), "{} is written: {names:?}", file.display());
    }
}
