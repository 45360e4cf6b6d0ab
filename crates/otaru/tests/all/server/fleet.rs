//! A server in a folder of its own, its devices, and a user of its command line.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use otaru_testing::{Ended, Program, eventually, free_port, run};
use serde_json::Value;
use tempfile::TempDir;

use crate::common::otaru;

/// Longest that a rollout may take here.
pub(crate) const LONG: Duration = Duration::from_secs(240);

/// A server that can be killed and started again where it was.
pub(crate) struct Fleet {
    pub(crate) dir: TempDir,
    pub(crate) http: u16,
    pub(crate) mqtt: u16,
    more: Vec<String>,
    server: Option<Program>,
    pub(crate) token: String,
}

impl Fleet {
    /// Starts one with these options.
    #[track_caller]
    pub(crate) fn start(more: &[&str]) -> Self {
        Self::over(free_port(), more)
    }

    /// Starts one whose devices find their broker at this port. The broker is the server's own, unless an option names another.
    #[track_caller]
    pub(crate) fn over(mqtt: u16, more: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut fleet = Self {
            dir,
            http: free_port(),
            mqtt,
            more: more.iter().map(|text| (*text).to_owned()).collect(),
            server: None,
            token: String::new(),
        };
        fleet.begin();
        let first = fleet.server.as_ref().unwrap().says("\"event\":\"listening\"");
        let first: Value = serde_json::from_str(&first).unwrap();
        fleet.token = first["token"].as_str().unwrap().to_owned();
        fleet
    }

    /// Starts the server again where it was.
    #[track_caller]
    pub(crate) fn begin(&mut self) {
        let server = Program::server(self.command(), self.http);
        server.says("\"event\":\"listening\"");
        self.server = Some(server);
    }

    /// Gives it more options at its next start.
    pub(crate) fn more(&mut self, options: &[&str]) {
        self.more.extend(options.iter().map(|option| (*option).to_owned()));
    }

    /// The command that starts it.
    pub(crate) fn command(&self) -> Command {
        let address = |port: u16| format!("127.0.0.1:{port}");
        let mut command = otaru(&["serve", "--json", "--http", &address(self.http)]);
        command.arg("--data").arg(self.data()).args(&self.more);
        if !self.more.iter().any(|option| option == "--mqtt") {
            command.args(["--mqtt-listen", &address(self.mqtt)]);
        }
        command
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Kills it: it hears nothing of it.
    pub(crate) fn kill(&mut self) {
        self.server = None;
    }

    /// Stops it as a person would.
    #[track_caller]
    pub(crate) fn stop(&mut self) {
        self.server.take().unwrap().interrupt();
    }

    /// Returns its log so far: all it said but the line that shows the token.
    pub(crate) fn logs(&self) -> String {
        let mut lines = self.server.as_ref().unwrap().lines();
        lines.retain(|line| !line.contains("\"event\":\"listening\""));
        lines.join("\n")
    }

    /// Waits for a line of its log with this text.
    #[track_caller]
    pub(crate) fn says(&self, text: &str) -> String {
        self.server.as_ref().unwrap().says(text)
    }

    /// A command of its user.
    pub(crate) fn user(&self, args: &[&str]) -> Command {
        let mut command = otaru(args);
        command.env("OTARU_SERVER", format!("http://127.0.0.1:{}", self.http));
        command.env("OTARU_TOKEN", &self.token).env("HOME", self.dir.path());
        command.env_remove("XDG_CONFIG_HOME");
        command
    }

    /// Runs a command of its user; it must succeed.
    #[track_caller]
    pub(crate) fn does(&self, args: &[&str]) -> String {
        run(self.user(args)).with_code(0).out
    }

    /// Runs a command of its user.
    pub(crate) fn tries(&self, args: &[&str]) -> Ended {
        run(self.user(args))
    }

    /// Returns what a command of its user says as JSON, one value a line.
    #[track_caller]
    pub(crate) fn asks(&self, args: &[&str]) -> Vec<Value> {
        let mut args = args.to_vec();
        args.push("--json");
        self.does(&args).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Makes firmware, and gives back its path.
    #[track_caller]
    pub(crate) fn firmware(&self, version: &str, behaviour: &str) -> String {
        self.firmware_of("40K", version, behaviour)
    }

    /// The same of this size.
    #[track_caller]
    pub(crate) fn firmware_of(&self, size: &str, version: &str, behaviour: &str) -> String {
        firmware_in(self.dir.path(), size, version, behaviour)
    }

    /// Virtual devices on this firmware, fast ones, known to the server.
    #[track_caller]
    pub(crate) fn devices(&self, firmware: &str, count: usize, more: &[&str]) -> Program {
        self.devices_at("20", firmware, count, more)
    }

    /// The same at this speed.
    #[track_caller]
    pub(crate) fn devices_at(&self, speed: &str, firmware: &str, count: usize, more: &[&str]) -> Program {
        let broker = format!("mqtt://127.0.0.1:{}", self.mqtt);
        let mut command =
            otaru(&["sim", "--json", "--speed", speed, "--broker", &broker, "--firmware", firmware]);
        command.args(["--devices", &count.to_string()]).args(more);
        let devices = Program::start(command);
        eventually("all devices to be known", LONG, || {
            let known = self.asks(&["devices", "--limit", "20000"]);
            (known.iter().filter(|device| device["reachable"] == true).count() >= count).then_some(())
        });
        devices
    }

    /// The rollout as it is, asked for until it is so.
    #[track_caller]
    pub(crate) fn rollout(&self, id: u64, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        let id = id.to_string();
        eventually(what, LONG, || {
            // The server may just be away.
            let ended = self.tries(&["rollout", "show", &id, "--json"]);
            let rollout: Value = serde_json::from_str(ended.out.lines().next()?).ok()?;
            is(&rollout).then_some(rollout)
        })
    }

    /// A number from the database.
    pub(crate) fn count(&self, sql: &str) -> i64 {
        database(&self.data()).query_row(sql, [], |row| row.get(0)).unwrap()
    }
}

/// Makes firmware in a folder, and gives back its path.
#[track_caller]
pub(crate) fn firmware_in(folder: &Path, size: &str, version: &str, behaviour: &str) -> String {
    let file = folder.join(format!("lamp-{version}.bin")).display().to_string();
    let mut command = otaru(&["image", "make", "--chip", "esp32c3", "--project", "lamp", "--size", size]);
    command.args(["--version", version, "--behaviour", behaviour, "-o", &file]);
    run(command).with_code(0);
    file
}

/// The database of a data folder.
pub(crate) fn database(data: &Path) -> rusqlite::Connection {
    rusqlite::Connection::open(data.join("otaru.db")).unwrap()
}

/// Returns the number of deployments of a rollout with this standing.
pub(crate) fn standing(rollout: &Value, name: &str) -> u64 {
    rollout["tallies"].as_array().unwrap().iter().map(|tally| tally[name].as_u64().unwrap()).sum()
}

/// A rollout's phase.
pub(crate) fn phase(rollout: &Value) -> &str {
    rollout["phase"].as_str().unwrap()
}
