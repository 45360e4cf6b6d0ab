//! Three servers over one PostgreSQL, one broker and one store of firmware, as a test has them. The tests are by subject in the files beside this one.

mod balancer;
mod bucket;
mod chaos;
mod faults;
mod leaving;
mod relay;
mod rolling;
mod sharing;

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use otaru_testing::postgres::{Postgres, psql};
use otaru_testing::{LIMIT, Program, eventually, free_port, have, program, run};
use serde_json::Value;
use tempfile::TempDir;

use crate::common::otaru;
use crate::server::fleet::{LONG, firmware_in};

const SERVERS: usize = 3;

/// Returns a number that the environment may set to another.
fn setting<T: std::str::FromStr>(name: &str, default: T) -> T {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

struct Server {
    http: u16,
    /// Difference of its clock from the machine's, as `faketime` takes it.
    clock: Option<&'static str>,
    program: Option<Program>,
}

/// Servers that share everything, their devices' broker, and a user.
struct Cluster {
    dir: TempDir,
    postgres: Postgres,
    url: String,
    mqtt: u16,
    broker: Option<Program>,
    servers: Vec<Server>,
    /// Options of each server besides the usual.
    more: Vec<String>,
    token: String,
    /// Lines that servers said which are gone.
    said: Vec<String>,
}

/// Shows the servers' warnings where a test failed.
impl Drop for Cluster {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        (0..SERVERS).for_each(|number| drop(self.take(number)));
        self.said.extend(self.broker.as_ref().map(Program::lines).unwrap_or_default());
        let is_warning =
            |line: &&String| ["WARN", "ERROR", "dropped"].iter().any(|level| line.contains(level));
        self.said.iter().filter(is_warning).for_each(|line| println!("{line}"));
    }
}

impl Cluster {
    /// Starts all; skips the test loudly where PostgreSQL or Mosquitto is missing.
    #[track_caller]
    fn start() -> Option<Self> {
        let mut cluster = Self::prepare()?;
        cluster.begin_all();
        Some(cluster)
    }

    /// Starts the database and the broker; the servers [begin](Self::begin_all) once they are set up.
    #[track_caller]
    fn prepare() -> Option<Self> {
        if !have(&["mosquitto"]) {
            return None;
        }
        let postgres = Postgres::start()?;
        let url = postgres.create("fleet");
        let server = || Server { http: free_port(), clock: None, program: None };
        let mut cluster = Self {
            dir: tempfile::tempdir().unwrap(),
            postgres,
            url,
            mqtt: free_port(),
            broker: None,
            servers: std::iter::repeat_with(server).take(SERVERS).collect(),
            more: Vec::new(),
            token: String::new(),
            said: Vec::new(),
        };
        // Mosquitto drops what is for a subscriber beyond a thousand messages that wait, such as one that stands still.
        let config = format!(
            "listener {} 127.0.0.1\nallow_anonymous true\npersistence false\nmax_queued_messages 0\n",
            cluster.mqtt
        );
        std::fs::write(cluster.dir.path().join("mosquitto.conf"), config).unwrap();
        cluster.begin_broker();
        Some(cluster)
    }

    fn begin_broker(&mut self) {
        let mut command = program("mosquitto");
        command.arg("-c").arg(self.dir.path().join("mosquitto.conf"));
        self.broker = Some(Program::server(command, self.mqtt));
    }

    #[track_caller]
    fn begin_all(&mut self) {
        (0..SERVERS).for_each(|number| self.begin(number));
    }

    /// Starts a server, for the first time or again.
    #[track_caller]
    fn begin(&mut self, number: usize) {
        let Server { http, clock, .. } = self.servers[number];
        let path = |name: &str| self.dir.path().join(name);
        let mut command =
            otaru(&["serve", "--json", "--http", &format!("127.0.0.1:{http}"), "--database", &self.url]);
        command.arg("--data").arg(path(&format!("data{number}"))).args(&self.more);
        if !self.more.iter().any(|option| option == "--artifacts") {
            command.arg("--artifacts").arg(path("firmware"));
        }
        command.args(["--mqtt", &format!("mqtt://127.0.0.1:{}", self.mqtt)]);
        if let Some(clock) = clock {
            shift_clock(&mut command, clock);
        }
        let server = Program::server(command, http);
        let first: Value = serde_json::from_str(&server.says("\"event\":\"listening\"")).unwrap();
        if let Some(token) = first["token"].as_str() {
            token.clone_into(&mut self.token);
        }
        self.servers[number].program = Some(server);
    }

    /// Takes a server out; dropped, it is killed.
    fn take(&mut self, number: usize) -> Option<Program> {
        let server = self.servers[number].program.take()?;
        self.said.extend(server.lines().into_iter().map(|line| format!("server {number}: {line}")));
        Some(server)
    }

    fn user(&self, number: usize, args: &[&str]) -> Command {
        let mut command = otaru(args);
        command.env("OTARU_SERVER", format!("http://127.0.0.1:{}", self.servers[number].http));
        command.env("OTARU_TOKEN", &self.token).env("HOME", self.dir.path()).env_remove("XDG_CONFIG_HOME");
        command
    }

    /// Runs a command of a user at a server; it must succeed.
    #[track_caller]
    fn does(&self, number: usize, args: &[&str]) -> String {
        run(self.user(number, args)).with_code(0).out
    }

    /// Returns what a command says as JSON, or nothing if the server is away.
    fn asks(&self, number: usize, args: &[&str]) -> Option<Value> {
        let ended = run(self.user(number, &[args, &["--json"]].concat()));
        serde_json::from_str(ended.out.lines().next()?).ok()
    }

    #[track_caller]
    fn firmware(&self, size: &str, version: &str, behaviour: &str) -> String {
        firmware_in(self.dir.path(), size, version, behaviour)
    }

    /// Starts virtual devices and waits until the servers know them.
    #[track_caller]
    fn devices(&self, firmware: &str, count: usize, speed: &str, more: &[&str]) -> Program {
        let broker = format!("mqtt://127.0.0.1:{}", self.mqtt);
        let mut command =
            otaru(&["sim", "--json", "--speed", speed, "--broker", &broker, "--firmware", firmware]);
        command.args(["--devices", &count.to_string()]).args(more);
        let devices = Program::start(command);
        eventually("all devices to be known", LONG, || {
            let known = "SELECT count(*) FROM devices WHERE reachable AND version <> ''";
            (self.count(known) == count).then_some(())
        });
        devices
    }

    /// Returns a number from the database.
    #[track_caller]
    fn count(&self, sql: &str) -> usize {
        psql(&self.url, sql).unwrap().parse().unwrap()
    }

    /// Returns rows of two columns from the database.
    #[track_caller]
    fn rows(&self, sql: &str) -> BTreeMap<String, String> {
        let rows = psql(&self.url, sql).unwrap();
        rows.lines().filter_map(|row| row.split_once('|')).map(|(a, b)| (a.into(), b.into())).collect()
    }

    /// Returns the shards of each server, by its URL, as one of them tells.
    fn shards(&self, number: usize) -> Option<BTreeMap<String, u64>> {
        let servers = self.asks(number, &["servers"])?;
        let items = servers["items"].as_array()?;
        Some(
            items
                .iter()
                .map(|item| (item["name"].to_string(), item["shards"].as_u64().unwrap_or(0)))
                .collect(),
        )
    }

    /// Waits until every server has its part.
    #[track_caller]
    fn balanced(&self, servers: usize) {
        eventually("each server to have its part of the shards", LIMIT, || {
            let shards = self.shards(self.living())?;
            let least = 256 / u64::try_from(servers).unwrap_or(1);
            let is = shards.len() == servers
                && shards.values().sum::<u64>() == 256
                && shards.values().all(|has| *has >= least);
            is.then_some(())
        });
    }

    fn living(&self) -> usize {
        self.servers.iter().position(|server| server.program.is_some()).unwrap()
    }

    #[track_caller]
    fn rollout(&self, id: &str, what: &str, limit: Duration, is: impl Fn(&Value) -> bool) -> Value {
        eventually(what, limit, || {
            let rollout = self.asks(self.living(), &["rollout", "show", id])?;
            is(&rollout).then_some(rollout)
        })
    }

    /// Counts the leases that a server holds.
    fn held(&self, number: usize) -> usize {
        let port = self.servers[number].http;
        let sql = format!(
            "SELECT count(*) FROM leases l JOIN servers s ON s.id = l.server WHERE s.name LIKE '%:{port}'"
        );
        psql(&self.url, &sql).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
    }
}

/// Has a program see another time of day than the machine's. Its timers, and times of files, are as ever.
#[track_caller]
fn shift_clock(command: &mut Command, by: &str) {
    // The wrapper itself would stay between the test and the program, which is to be killed.
    let mut wrapped = program("faketime");
    wrapped.args(["-m", "-f", by, "printenv", "LD_PRELOAD"]);
    let library = run(wrapped).with_code(0).out;
    command.env("LD_PRELOAD", library.trim()).env("FAKETIME", by);
    command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1").env("NO_FAKE_STAT", "1");
}

/// Returns the versions that each device started, in order, each with how often it did so in a row, as the devices themselves tell.
fn starts(devices: &Program) -> BTreeMap<String, Vec<(String, usize)>> {
    let mut starts = BTreeMap::<String, Vec<(String, usize)>>::new();
    for line in devices.lines() {
        let Ok(event) = serde_json::from_str::<Value>(&line) else { continue };
        if event["event"] != "boot" {
            continue;
        }
        let text = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
        let started = starts.entry(text("device")).or_default();
        match started.last_mut() {
            Some((version, times)) if *version == text("version") => *times += 1,
            _ => started.push((text("version"), 1)),
        }
    }
    starts
}
