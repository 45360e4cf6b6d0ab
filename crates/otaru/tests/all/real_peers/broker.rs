//! A broker, the embedded one, Mosquitto or rumqttd, and Mosquitto's clients.

use std::path::Path;
use std::process::Command;

use otaru_format::status::Status;
use otaru_testing::{Ended, LIMIT, Program, eventually_or, free_port, have, program, run};
use tempfile::TempDir;

use crate::common::otaru;

/// The user name wherever there is a login.
pub(crate) const USER: &str = "fleet";

/// Kind of broker.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Mosquitto,
    Embedded,
    /// A third implementation of MQTT 5; it knows no login here.
    Rumqttd,
}

/// A broker at a port that it keeps over restarts.
pub(crate) struct Broker {
    kind: Kind,
    dir: TempDir,
    port: u16,
    password: Option<&'static str>,
    running: Option<Program>,
}

impl Broker {
    /// Starts one that lets everybody in; `None` when a program is missing.
    pub(crate) fn start(kind: Kind) -> Option<Self> {
        let mut needed = vec!["mosquitto_sub", "mosquitto_pub", "python3"];
        match kind {
            Kind::Mosquitto => needed.extend(["mosquitto", "mosquitto_passwd"]),
            Kind::Rumqttd => needed.push("rumqttd"),
            Kind::Embedded => {}
        }
        if !have(&needed) {
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let mut broker = Self { kind, dir, port: free_port(), password: None, running: None };
        broker.begin();
        Some(broker)
    }

    /// Kills it.
    pub(crate) fn kill(&mut self) {
        self.running = None;
    }

    /// Starts it again where it was.
    #[track_caller]
    pub(crate) fn begin(&mut self) {
        let command = match self.kind {
            Kind::Mosquitto => mosquitto(self.dir.path(), self.port, self.password),
            Kind::Embedded => embedded(self.port, self.password),
            Kind::Rumqttd => rumqttd(self.dir.path(), self.port),
        };
        self.running = Some(Program::server(command, self.port));
    }

    /// Kills it and starts it again with this password.
    #[track_caller]
    pub(crate) fn begin_with_password(&mut self, password: &'static str) {
        self.kill();
        self.password = Some(password);
        self.begin();
    }

    /// The port it listens at.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The process.
    pub(crate) fn process(&self) -> &Program {
        self.running.as_ref().unwrap()
    }

    /// Returns the URL, with the login if there is one.
    pub(crate) fn url(&self) -> String {
        let login = self.password.map(|password| format!("{USER}:{password}@")).unwrap_or_default();
        format!("mqtt://{login}127.0.0.1:{}", self.port)
    }

    /// `mosquitto_pub` or `mosquitto_sub` towards it.
    pub(crate) fn client(&self, name: &str, args: &[&str]) -> Command {
        let mut command = program(name);
        command.args(["-h", "127.0.0.1", "-p", &self.port.to_string()]).args(args);
        if matches!(self.kind, Kind::Rumqttd) {
            // It listens for one version at a port.
            command.args(["-V", "mqttv5"]);
        }
        if let Some(password) = self.password {
            command.args(["-u", USER, "-P", password]);
        }
        command
    }

    /// Publishes with `mosquitto_pub`.
    #[track_caller]
    pub(crate) fn publish(&self, topic: &str, more: &[&str]) {
        let mut command = self.client("mosquitto_pub", &["-t", topic]);
        command.args(more);
        run(command).with_code(0);
    }

    /// Tells every device to update, as people did from the first board on.
    #[track_caller]
    pub(crate) fn offer(&self, url: &str) {
        self.publish("ESP32/ota/update", &["-q", "1", "-m", url]);
    }

    /// Sends one device a command of any bytes.
    #[track_caller]
    pub(crate) fn send(&self, device: &str, command: &[u8]) {
        let file = self.dir.path().join("command");
        std::fs::write(&file, command).unwrap();
        let topic = format!("ESP32/ota/{device}/update");
        self.publish(&topic, &["-q", "1", "-f", &file.display().to_string()]);
    }

    /// Returns the message that the broker keeps at a topic, read with `mosquitto_sub -C 1`.
    pub(crate) fn retained(&self, topic: &str) -> Option<String> {
        let args = ["-t", topic, "-C", "1", "-W", "2", "--retained-only"];
        let Ended { code, out, .. } = run(self.client("mosquitto_sub", &args));
        // With nothing kept it ends well too, at the first fresh message.
        (code == Some(0) && !out.is_empty()).then(|| out.trim_end().to_owned())
    }

    /// A device's retained report, once it is like this.
    #[track_caller]
    pub(crate) fn report(&self, device: &str, like: impl Fn(&Status<String>) -> bool) -> Status<String> {
        let topic = format!("ESP32/ota/{device}/status");
        let mut last = None;
        let found = eventually_or(LIMIT, || {
            last = self.retained(&topic);
            let status: Status<String> = serde_json::from_str(last.as_ref()?).unwrap();
            like(&status).then_some(status)
        });
        found.unwrap_or_else(|| panic!("{device} last reported {last:?}"))
    }
}

fn mosquitto(dir: &Path, port: u16, password: Option<&str>) -> Command {
    let mut settings = format!("user root\nlistener {port} 127.0.0.1\nmax_queued_messages 5000\n");
    match password {
        None => settings.push_str("allow_anonymous true\n"),
        Some(password) => {
            let file = dir.join("passwords");
            let mut command = program("mosquitto_passwd");
            run({
                command.args(["-b", "-c"]).arg(&file).args([USER, password]);
                command
            })
            .with_code(0);
            settings.push_str(&format!("allow_anonymous false\npassword_file {}\n", file.display()));
        }
    }
    let file = dir.join("mosquitto.conf");
    std::fs::write(&file, settings).unwrap();
    let mut command = program("mosquitto");
    command.arg("-c").arg(file);
    command
}

fn embedded(port: u16, password: Option<&str>) -> Command {
    let mut command = otaru(&["-v", "broker", "--listen", &format!("127.0.0.1:{port}")]);
    if let Some(password) = password {
        command.args(["--username", USER]).env("OTARU_PASSWORD", password);
    }
    command
}

/// With the limits of its sample settings, except for those that the tests need higher.
fn rumqttd(dir: &Path, port: u16) -> Command {
    let settings = format!(
        "id = 0\n[router]\nid = 0\nmax_connections = 10010\nmax_outgoing_packet_count = 1000\n\
         max_segment_size = 104857600\nmax_segment_count = 10\n\
         [v5.1]\nname = \"v5\"\nlisten = \"127.0.0.1:{port}\"\nnext_connection_delay_ms = 1\n\
         [v5.1.connections]\nconnection_timeout_ms = 60000\nmax_payload_size = 262144\nmax_inflight_count = 500\n"
    );
    let file = dir.join("rumqttd.toml");
    std::fs::write(&file, settings).unwrap();
    let mut command = program("rumqttd");
    command.args(["-v", "-c"]).arg(file);
    command
}
