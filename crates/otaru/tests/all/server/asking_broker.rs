//! RabbitMQ asks the server who may connect, publish and subscribe, and has the connections of ended credentials ended, with the sample in
//! `packaging/brokers`.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use mqtt5_protocol::packet::MqttPacket;
use mqtt5_protocol::packet::connect::ConnectPacket;
use mqtt5_protocol::packet::publish::PublishPacket;
use mqtt5_protocol::packet::subscribe::SubscribePacket;
use mqtt5_protocol::{ConnectOptions, QoS};
use otaru_testing::brokers::{Asking, RABBITMQ_LOGIN, RabbitMq, rabbitmq_that_asks};
use otaru_testing::{LIMIT, eventually, free_port, have, run};
use tempfile::TempDir;

use crate::common::otaru;
use crate::server::fleet::{Fleet, LONG, phase, standing};

const SAMPLE: &str = include_str!("../../../../../packaging/brokers/rabbitmq-asks.conf");
const SECRET: &str = "between-broker-and-server";
/// The server's own password at the broker.
const OWN: &str = "own-password-there";

/// A broker and the server that it asks.
struct Setting {
    fleet: Fleet,
    _broker: RabbitMq,
    _dir: TempDir,
}

impl Setting {
    /// Starts both, unless a program is missing.
    fn start() -> Option<Self> {
        if !have(&["rabbitmq-server", "epmd"]) {
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let [mqtt, server, management] = [free_port(), free_port(), free_port()];
        let asking = Asking { server, secret: SECRET, management };
        let broker = rabbitmq_that_asks(dir.path(), mqtt, SAMPLE, &asking);
        let (name, password) = RABBITMQ_LOGIN;
        let file = |name: &str, line: &str| write(dir.path(), name, line);
        let fleet = Fleet::over(
            mqtt,
            &[
                "--mqtt",
                &format!("mqtt://server@127.0.0.1:{mqtt}"),
                "--mqtt-version",
                "3.1.1",
                "--mqtt-password-file",
                &file("server.txt", OWN),
                "--broker-auth-listen",
                &format!("127.0.0.1:{server}"),
                "--broker-auth-secret-file",
                &file("broker.txt", SECRET),
                "--broker-management",
                &format!("http://127.0.0.1:{management}"),
                "--broker-management-login-file",
                &file("ends.txt", &format!("{name}:{password}")),
            ],
        );
        Some(Self { fleet, _broker: broker, _dir: dir })
    }

    /// Adds a device; returns its password.
    #[track_caller]
    fn device(&self, id: &str) -> String {
        self.made(&["devices", "add", id], "password")
    }

    /// Returns what a command shows once.
    #[track_caller]
    fn made(&self, args: &[&str], field: &str) -> String {
        self.fleet.asks(args)[0][field].as_str().unwrap().to_owned()
    }

    fn client(&self, id: &str, username: &str, password: &str) -> Option<Client> {
        Client::connect(self.fleet.mqtt, id, username, password)
    }

    /// Connects, once RabbitMQ is up.
    #[track_caller]
    fn enters(&self, id: &str, username: &str, password: &str) -> Client {
        eventually("RabbitMQ to let somebody in", LONG, || self.client(id, username, password))
    }

    /// Waits for the end of a connection, and tells how long that took.
    #[track_caller]
    fn ends(&self, client: Client, what: &str) {
        let begun = Instant::now();
        client.until_its_end();
        println!("{what}: its connection ended {:?} later", begun.elapsed());
    }
}

fn write(dir: &Path, name: &str, line: &str) -> String {
    let path = dir.join(name);
    std::fs::write(&path, format!("{line}\n")).unwrap();
    path.display().to_string()
}

/// A connection of MQTT 3.1.1 that was let in.
struct Client(TcpStream);

impl Client {
    /// Connects; `None` if that is refused.
    fn connect(port: u16, id: &str, username: &str, password: &str) -> Option<Self> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()?;
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        let mut client = Self(stream);
        let options =
            ConnectOptions::new(id).with_clean_start(true).with_keep_alive(Duration::from_secs(3_600));
        client.send(&ConnectPacket::new_v311(options.with_credentials(username, password)));
        (client.read::<4>()? == [0x20, 2, 0, 0]).then_some(client)
    }

    fn send(&mut self, packet: &impl MqttPacket) {
        let mut bytes = BytesMut::new();
        packet.encode(&mut bytes).unwrap();
        // A connection that is over is seen where the answer is read.
        let _ = self.0.write_all(&bytes);
    }

    fn read<const N: usize>(&mut self) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        self.0.read_exact(&mut bytes).is_ok().then_some(bytes)
    }

    /// Whether a message at QoS 1 is taken.
    fn publishes(&mut self, topic: &str) -> bool {
        let mut packet = PublishPacket::new(topic, &b"{}"[..], QoS::AtLeastOnce).with_packet_id(7);
        packet.protocol_version = 4;
        self.send(&packet);
        self.read::<4>() == Some([0x40, 2, 0, 7])
    }

    /// Whether a subscription is taken.
    fn subscribes(&mut self, filter: &str) -> bool {
        self.send(&SubscribePacket::new_v311(9).add_filter(filter, QoS::AtLeastOnce));
        matches!(self.read::<5>(), Some([0x90, 3, 0, 9, 0 | 1]))
    }

    /// Whether the broker still answers.
    fn is_there(&mut self) -> bool {
        let _ = self.0.write_all(&[0xC0, 0]);
        self.read::<2>() == Some([0xD0, 0])
    }

    /// Fails unless the broker ends it.
    #[track_caller]
    fn until_its_end(mut self) {
        let mut rest = Vec::new();
        self.0.read_to_end(&mut rest).expect("the connection goes on");
    }
}

/// One RabbitMQ for all: it takes its time to start.
#[test]
fn rabbitmq_asks_the_server() {
    let Some(setting) = Setting::start() else { return };
    a_fleet_with_one_key_is_updated(&setting);
    devices_log_in_with_what_the_server_knows_and_reach_their_own(&setting);
    a_credential_that_ends_is_refused_and_its_connection_is_ended(&setting);
}

fn devices_log_in_with_what_the_server_knows_and_reach_their_own(setting: &Setting) {
    let (lamp, hall) = (setting.device("lamp"), setting.device("hall"));
    let mut device = setting.enters("lamp", "lamp", &lamp);
    for (id, username, password) in [
        ("lamp", "lamp", "wrong"),
        ("hall", "lamp", &lamp),
        ("hall", "hall", &lamp),
        ("lamp", "push", &setting.fleet.token),
        ("server", "server", "wrong"),
    ] {
        assert!(setting.client(id, username, password).is_none(), "{id} as {username}");
    }
    assert!(device.publishes("ESP32/ota/lamp/status") && device.subscribes("ESP32/ota/lamp/update"));
    assert!(device.subscribes("ESP32/ota/update") && device.publishes("ESP32/ota/progress"));
    // RabbitMQ ends a connection that wants what it may not.
    for topic in ["ESP32/ota/hall/status", "ESP32/ota/lamp/update", "ESP32/ota/update"] {
        assert!(!setting.enters("lamp", "lamp", &lamp).publishes(topic), "{topic}");
    }
    for filter in ["ESP32/ota/hall/update", "ESP32/ota/+/update", "#"] {
        assert!(!setting.enters("lamp", "lamp", &lamp).subscribes(filter), "{filter}");
    }
    assert!(setting.enters("hall", "hall", &hall).publishes("ESP32/ota/hall/status"));
    let viewer = setting.made(&["token", "create", "watch", "--role", "viewer"], "text");
    let mut watch = setting.enters("watch", "me", &viewer);
    assert!(watch.subscribes("ESP32/ota/+/status") && !watch.publishes("ESP32/ota/update"));
    let mut push = setting.enters("push", "me", &setting.fleet.token);
    assert!(push.publishes("ESP32/ota/update"));
    let logs = setting.fleet.logs();
    for secret in [SECRET, OWN, &lamp, &viewer, RABBITMQ_LOGIN.1] {
        assert!(!logs.contains(secret), "no secret is logged");
    }
}

fn a_fleet_with_one_key_is_updated(setting: &Setting) {
    let fleet = &setting.fleet;
    let key = setting.made(&["devices", "key", "create", "line", "--tag", "line=1"], "text");
    let (old, new) = (fleet.firmware("1.0.0", "healthy"), fleet.firmware("1.1.0", "healthy"));
    let login = ["--username", "factory", "--password", &key, "--mqtt-version", "3.1.1"];
    let devices = fleet.devices(&old, 3, &login);
    assert_eq!(fleet.asks(&["devices", "--tags", "line=1"]).len(), 3, "the key registered them");
    fleet.does(&["release", "upload", &new, "--rollout"]);
    let rollout = fleet.rollout(1, "the rollout to complete", |rollout| phase(rollout) == "completed");
    assert_eq!(standing(&rollout, "succeeded"), 3, "{rollout}");
    drop(devices);
}

fn a_credential_that_ends_is_refused_and_its_connection_is_ended(setting: &Setting) {
    let fleet = &setting.fleet;
    let (cellar, attic) = (setting.device("cellar"), setting.device("attic"));
    let mut stays = setting.enters("attic", "attic", &attic);

    let device = setting.enters("cellar", "cellar", &cellar);
    fleet.does(&["devices", "retire", "cellar", "--yes"]);
    setting.ends(device, "a device was retired");
    assert!(setting.client("cellar", "cellar", &cellar).is_none(), "it does not come back");

    // Whoever shares a user name with others is found by the client id.
    let key = setting.made(&["devices", "key", "create", "other line"], "text");
    let device = setting.enters("one", "factory", &key);
    let mut other = setting.enters("two", "factory", &key);
    fleet.does(&["devices", "retire", "one", "--yes"]);
    setting.ends(device, "a device of a fleet key was retired");
    assert!(other.is_there(), "others with its user name stay");

    let token = setting.fleet.asks(&["token", "create", "push", "--role", "operator"]);
    let [id, text] = ["id", "text"].map(|field| token[0][field].as_str().unwrap().to_owned());
    let person = setting.enters("tool", "factory", &text);
    fleet.does(&["token", "revoke", &id]);
    setting.ends(person, "a token was revoked");
    assert!(setting.client("tool", "factory", &text).is_none());

    let made = setting.made(&["devices", "password", "attic"], "password");
    assert!(setting.client("attic", "attic", &attic).is_none(), "the old password");
    assert!(setting.client("attic", "attic", &made).is_some());
    assert!(other.is_there());
    assert!(!stays.publishes("ESP32/ota/attic/online"), "its credential has ended");
}

#[test]
fn options_that_do_not_go_together_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, line: &str| write(dir.path(), name, line);
    let (secret, short, login) = (file("s", SECRET), file("short", "0123456789abcde"), file("l", "nobody"));
    let data = dir.path().join("data").display().to_string();
    let here = ["--mqtt", "mqtt://127.0.0.1:1", "--broker-auth-listen", "127.0.0.1:0"];
    let far = ["--mqtt", "mqtt://127.0.0.1:1", "--broker-auth-listen", "0.0.0.0:0"];
    let with_secret = ["--broker-auth-secret-file", secret.as_str()];
    let management = |url| ["--broker-management", url, "--broker-management-login-file", login.as_str()];
    let url = "http://127.0.0.1:15672";
    for (options, code, told) in [
        (here[2..].to_vec(), 2, "--mqtt <URL>"),
        (here.to_vec(), 1, "give --broker-auth-secret-file, or --broker-auth-ca"),
        ([&here[..], &["--broker-auth-secret-file", &short]].concat(), 1, "at least 16 characters"),
        ([&far[..], &with_secret].concat(), 1, "--tls-dev"),
        ([&here[..], &["--broker-auth-ca", &secret]].concat(), 1, "--broker-auth-ca needs TLS"),
        ([&here[..], &with_secret, &management("http://a:b@127.0.0.1")].concat(), 1, "without a login"),
        ([&here[..], &with_secret, &management(url)].concat(), 1, "is USER:PASSWORD"),
        ([&here[..], &with_secret, &management(url)[..2]].concat(), 2, "--broker-management-login-file"),
    ] {
        let mut command = otaru(&["serve", "--data", &data, "--http", "127.0.0.1:0"]);
        command.args(&options);
        run(command).with_code(code).tells(told);
    }
}
