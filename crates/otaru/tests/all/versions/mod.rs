//! The command line against servers of other versions: what people see, what `--json` says, what the server is asked.
//!
//! `older.json` has answers that were recorded from a server one version back, `newer.json` the same with fields, states, phases,
//! standings, kinds and problems that are not known here. Both are by method and path; of several, the longest that fits is taken.

mod newer;
mod older;
mod server;

use std::process::Command;

use otaru_testing::{Ended, run};
use serde_json::Value;

use crate::common::otaru;
use server::Server;

/// A server of one version, and a user of the command line.
pub(crate) struct Version {
    server: Server,
    answers: Value,
}

impl Version {
    fn start(answers: &str) -> Self {
        let answers: Value = serde_json::from_str(answers).unwrap();
        Self { server: Server::start(answers.clone()), answers }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = otaru(args);
        command.env("OTARU_SERVER", &self.server.url).env("OTARU_TOKEN", "otaru_00000000_secret");
        command.env("HOME", "/nonexistent").env_remove("XDG_CONFIG_HOME");
        command
    }

    /// Runs a command to its end.
    fn tries(&self, args: &[&str]) -> Ended {
        run(self.command(args))
    }

    /// Returns what a command that succeeds tells people, with single spaces.
    #[track_caller]
    fn tells(&self, args: &[&str]) -> String {
        plain(&self.tries(args).with_code(0).out)
    }

    /// Fails unless a command prints these answers of the server as JSON, a line each, with all that is in them.
    #[track_caller]
    fn prints<'a>(&self, args: &[&str], answers: impl IntoIterator<Item = &'a Value>) {
        let lines = self.tries(&[args, &["--json"]].concat()).with_code(0).out;
        let wanted: Vec<String> = answers.into_iter().map(Value::to_string).collect();
        assert!(!wanted.is_empty());
        assert_eq!(lines.lines().collect::<Vec<_>>(), wanted, "{args:?}");
    }

    /// Returns the answer to a request.
    fn answer(&self, request: &str) -> &Value {
        &self.answers[request]
    }

    /// Returns the items of the list that is the answer to a request.
    fn items(&self, request: &str) -> &[Value] {
        self.answer(request)["items"].as_array().unwrap()
    }

    /// Returns the body of the last such request.
    #[track_caller]
    fn asked(&self, request: &str) -> Value {
        let asked = self.server.asked();
        let Some((_, body)) = asked.iter().rev().find(|(made, _)| made == request) else {
            panic!("nobody asked {request}: {asked:?}")
        };
        serde_json::from_str(body).unwrap()
    }
}

/// Leaves out how columns are aligned.
fn plain(text: &str) -> String {
    let lines = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
    lines.collect::<Vec<_>>().join("\n")
}

/// Fails unless a text has all these lines, or beginnings of lines.
#[track_caller]
fn has(text: &str, lines: &[&str]) {
    for line in lines {
        assert!(text.lines().any(|told| told.starts_with(line)), "wanted {line:?} in:\n{text}");
    }
}
