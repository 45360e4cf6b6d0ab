//! A broker, the embedded one, Mosquitto, NATS or RabbitMQ, and Mosquitto's clients.

use std::path::Path;
use std::process::Command;

use otaru_broker::Version;
use otaru_broker::client::{BrokerUrl, MqttVersion};
use otaru_format::status::Status;
use otaru_testing::brokers::{RABBITMQ_LOGIN, RabbitMq, nats, rabbitmq, rabbitmq_with_hosts};
use otaru_testing::{Ended, LIMIT, Program, eventually_or, free_port, have, program, run};
use tempfile::TempDir;

use crate::common::otaru;

/// The user name wherever there is a login.
pub(crate) const USER: &str = "fleet";

/// Kind of broker, and what programs are told about the version that it speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Embedded,
    /// Everybody is told to speak 3.1.1 with it.
    Embedded311,
    Mosquitto,
    /// The same.
    Mosquitto311,
    /// Speaks 3.1.1 only and says so; knows no login here.
    Nats,
    /// Before 3.13 it speaks 3.1.1 only and does not say so; knows no login here.
    RabbitMq,
}

impl Kind {
    /// Returns the version that programs are asked for.
    pub(crate) fn version(self) -> MqttVersion {
        match self {
            Self::Embedded | Self::Mosquitto | Self::Nats | Self::RabbitMq => MqttVersion::Auto,
            Self::Embedded311 | Self::Mosquitto311 => MqttVersion::V311,
        }
    }

    /// Returns the version that is spoken then.
    pub(crate) fn spoken(self) -> Version {
        match self {
            Self::Embedded | Self::Mosquitto => Version::V5,
            Self::Embedded311 | Self::Mosquitto311 | Self::Nats | Self::RabbitMq => Version::V311,
        }
    }

    /// Returns the programs that it is made of.
    fn programs(self) -> &'static [&'static str] {
        match self {
            Self::Embedded | Self::Embedded311 => &[],
            Self::Mosquitto | Self::Mosquitto311 => &["mosquitto", "mosquitto_passwd"],
            Self::Nats => &["nats-server"],
            Self::RabbitMq => &["rabbitmq-server", "epmd"],
        }
    }
}

/// The processes of a broker.
enum Running {
    One(Program),
    RabbitMq(#[expect(dead_code, reason = "it ends with this")] RabbitMq),
}

/// User name and password.
#[derive(Clone)]
pub(crate) struct Login {
    pub(crate) name: String,
    pub(crate) password: &'static str,
}

/// A broker at a port that it keeps over restarts.
pub(crate) struct Broker {
    kind: Kind,
    dir: TempDir,
    port: u16,
    login: Option<Login>,
    /// RabbitMQ's virtual hosts, if it is started with some.
    hosts: Vec<&'static str>,
    running: Option<Running>,
}

impl Broker {
    /// Starts one that lets everybody in; `None` when a program is missing.
    pub(crate) fn start(kind: Kind) -> Option<Self> {
        Self::start_with(kind, vec![])
    }

    /// Starts RabbitMQ with these virtual hosts, to be entered one by one.
    pub(crate) fn rabbitmq_with_hosts(hosts: Vec<&'static str>) -> Option<Self> {
        Self::start_with(Kind::RabbitMq, hosts)
    }

    fn start_with(kind: Kind, hosts: Vec<&'static str>) -> Option<Self> {
        if !have(&["mosquitto_sub", "mosquitto_pub", "python3"]) || !have(kind.programs()) {
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let mut broker = Self { kind, dir, port: free_port(), login: None, hosts, running: None };
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
        let (dir, port) = (self.dir.path(), self.port);
        let server = |command| Running::One(Program::server(command, port));
        let login = self.login.as_ref();
        self.running = Some(match self.kind {
            Kind::Mosquitto | Kind::Mosquitto311 => server(mosquitto(dir, port, login)),
            Kind::Embedded | Kind::Embedded311 => server(embedded(port, login)),
            Kind::Nats => Running::One(nats(dir, port)),
            Kind::RabbitMq if self.hosts.is_empty() => Running::RabbitMq(rabbitmq(dir, port)),
            Kind::RabbitMq => Running::RabbitMq(rabbitmq_with_hosts(dir, port, &self.hosts)),
        });
    }

    /// Goes into one of its virtual hosts, where nothing of the others is seen, and starts it if somebody left it killed.
    #[track_caller]
    pub(crate) fn enter(&mut self, host: &str) {
        let (user, password) = RABBITMQ_LOGIN;
        self.login = Some(Login { name: format!("{host}:{user}"), password });
        if self.running.is_none() {
            self.begin();
        }
    }

    /// Kills it and starts it again with this password.
    #[track_caller]
    pub(crate) fn begin_with_password(&mut self, password: &'static str) {
        self.kill();
        self.login = Some(Login { name: USER.to_owned(), password });
        self.begin();
    }

    /// The port it listens at.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Returns what kind it is.
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// Returns the login, if there is one.
    pub(crate) fn login(&self) -> Option<&Login> {
        self.login.as_ref()
    }

    /// The process.
    #[track_caller]
    pub(crate) fn process(&self) -> &Program {
        match self.running.as_ref().unwrap() {
            Running::One(program) => program,
            Running::RabbitMq(_) => panic!("RabbitMQ is more than one process"),
        }
    }

    /// Returns the URL, with the login if there is one.
    pub(crate) fn url(&self) -> String {
        let login = |login: &Login| format!("{}:{}@", login.name.replace(':', "%3A"), login.password);
        let login = self.login().map(login).unwrap_or_default();
        format!("mqtt://{login}127.0.0.1:{}", self.port)
    }

    /// Returns where it is for our own client.
    pub(crate) fn address(&self) -> BrokerUrl {
        self.url().parse::<BrokerUrl>().unwrap().with_version(self.kind.version())
    }

    /// `mosquitto_pub` or `mosquitto_sub` towards it.
    pub(crate) fn client(&self, name: &str, args: &[&str]) -> Command {
        let mut command = program(name);
        command.args(["-h", "127.0.0.1", "-p", &self.port.to_string()]).args(args);
        if let Some(Login { name, password }) = self.login() {
            command.args(["-u", name, "-P", password]);
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

fn mosquitto(dir: &Path, port: u16, login: Option<&Login>) -> Command {
    let mut settings = format!("user root\nlistener {port} 127.0.0.1\nmax_queued_messages 5000\n");
    match login {
        None => settings.push_str("allow_anonymous true\n"),
        Some(Login { name, password }) => {
            let file = dir.join("passwords");
            let mut command = program("mosquitto_passwd");
            run({
                command.args(["-b", "-c"]).arg(&file).args([name.as_str(), password]);
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

fn embedded(port: u16, login: Option<&Login>) -> Command {
    let mut command = otaru(&["-v", "broker", "--listen", &format!("127.0.0.1:{port}")]);
    if let Some(Login { name, password }) = login {
        command.args(["--username", name]).env("OTARU_PASSWORD", password);
    }
    command
}
