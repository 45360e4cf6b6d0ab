//! Brokers from the distribution, each alone on this machine with a port of its own and everything it writes in a folder of the test's.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::command::run;
use crate::programs::{Program, program};
use crate::wait::{LIMIT, eventually, free_port};

/// Longest time for RabbitMQ to start: it takes half a minute of a processor, which it may not have for itself.
const SLOW: Duration = Duration::from_secs(180);
/// Where Debian keeps RabbitMQ's own script; the one on the PATH changes to a user of RabbitMQ's, who may not write to a test's folder.
const RABBITMQ: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";

/// Starts Mosquitto, which lets everybody in. It speaks both versions.
#[track_caller]
pub fn mosquitto(dir: &Path, port: u16) -> Program {
    let file = dir.join("mosquitto.conf");
    let settings =
        format!("user root\nlistener {port} 127.0.0.1\nmax_queued_messages 5000\nallow_anonymous true\n");
    std::fs::write(&file, settings).unwrap();
    let mut command = program("mosquitto");
    command.arg("-c").arg(file);
    Program::server(command, port)
}

/// Starts Mosquitto with a sample of settings and rules in which it decides by itself, for these user names with their passwords.
#[track_caller]
pub fn mosquitto_that_decides(
    dir: &Path,
    port: u16,
    (settings, rules): (&str, &str),
    logins: &[(&str, &str)],
) -> Program {
    let path = |name: &str| dir.join(name).display().to_string();
    let mut settings = format!("user root\n{settings}");
    for (theirs, ours) in [
        ("listener 1883", format!("listener {port} 127.0.0.1")),
        ("password_file /etc/mosquitto/passwords", format!("password_file {}", path("passwords"))),
        ("acl_file /etc/mosquitto/mosquitto.acl", format!("acl_file {}", path("mosquitto.acl"))),
        ("/var/lib/mosquitto/", format!("{}/", dir.display())),
    ] {
        assert!(settings.contains(theirs), "{theirs} is in the sample");
        settings = settings.replace(theirs, &ours);
    }
    std::fs::write(path("mosquitto.conf"), settings).unwrap();
    std::fs::write(path("mosquitto.acl"), rules).unwrap();
    std::fs::write(path("passwords"), "").unwrap();
    for (name, password) in logins {
        let mut command = program("mosquitto_passwd");
        command.args(["-b", &path("passwords"), name, password]);
        run(command).with_code(0);
    }
    let mut command = program("mosquitto");
    command.args(["-c", &path("mosquitto.conf")]);
    Program::server(command, port)
}

/// Starts NATS, which lets everybody in. It speaks 3.1.1 only, and says so to who asks in 5.
#[track_caller]
pub fn nats(dir: &Path, port: u16) -> Program {
    let file = dir.join("nats.conf");
    // Sessions and retained messages are in JetStream. What is not acknowledged comes again after `ack_wait`, by default 30 s.
    let settings = format!(
        "server_name: otaru\nlisten: \"127.0.0.1:{}\"\njetstream {{ store_dir: \"{}\" }}\n\
         mqtt {{ listen: \"127.0.0.1:{port}\", ack_wait: \"2s\" }}\n",
        free_port(),
        dir.join("jetstream").display(),
    );
    std::fs::write(&file, settings).unwrap();
    let mut command = program("nats-server");
    command.arg("-c").arg(file);
    Program::server(command, port)
}

/// Login where RabbitMQ has virtual hosts: the user's name without its host, and the password.
pub const RABBITMQ_LOGIN: (&str, &str) = ("otaru", "in-a-test");

/// RabbitMQ with its MQTT plug-in.
pub struct RabbitMq {
    /// Ends before the other, which it is registered with.
    _server: Program,
    _epmd: Program,
}

/// Starts RabbitMQ, which lets everybody on this machine in, and waits until it does: it listens long before. Before 3.13 it speaks 3.1.1 only, and closes the connection of who asks in 5
/// without a byte.
#[track_caller]
pub fn rabbitmq(dir: &Path, port: u16) -> RabbitMq {
    let settings = format!("{}mqtt.allow_anonymous = true\n", listening(port));
    let server = start_rabbitmq(dir, port, &settings, "rabbitmq_mqtt");
    eventually("RabbitMQ to let somebody in", LIMIT, || lets_in(port, None).then_some(()));
    server
}

/// The same with virtual hosts, which share nothing but the process: who logs in as `host:user`, with [`RABBITMQ_LOGIN`], is in that host.
#[track_caller]
pub fn rabbitmq_with_hosts(dir: &Path, port: u16, hosts: &[&str]) -> RabbitMq {
    let file = dir.join("definitions.json");
    std::fs::write(&file, definitions(hosts)).unwrap();
    let file = file.display();
    let settings = format!("{}mqtt.allow_anonymous = false\nload_definitions = {file}\n", listening(port));
    let server = start_rabbitmq(dir, port, &settings, "rabbitmq_mqtt");
    let open = |host: &str| lets_in(port, Some(host));
    eventually("RabbitMQ to let somebody in", LIMIT, || hosts.iter().copied().all(open).then_some(()));
    server
}

/// Ports and secrets of a RabbitMQ that asks a server who may do what.
pub struct Asking<'a> {
    /// Port at which the server is asked.
    pub server: u16,
    /// Secret that the server is shown.
    pub secret: &'a str,
    /// Port of the management, whose administrator has [`RABBITMQ_LOGIN`].
    pub management: u16,
}

/// Starts RabbitMQ with a sample of settings in which it asks a server. It lets nobody in before that answers.
#[track_caller]
pub fn rabbitmq_that_asks(dir: &Path, port: u16, sample: &str, asking: &Asking<'_>) -> RabbitMq {
    let (name, password) = RABBITMQ_LOGIN;
    let file = dir.join("definitions.json");
    let users = format!(r#"[{{"name":"{name}","password":"{password}","tags":"administrator"}}]"#);
    std::fs::write(&file, format!(r#"{{"users":{users},"vhosts":[{{"name":"/"}}]}}"#)).unwrap();
    let Asking { server, secret, management } = asking;
    let mut settings = sample.to_owned();
    for (theirs, ours) in [
        ("tcp.default = 1883", format!("tcp.default = 127.0.0.1:{port}")),
        ("127.0.0.1:8090", format!("127.0.0.1:{server}")),
        ("=SECRET", format!("={secret}")),
        ("tcp.port = 15672", format!("tcp.port = {management}")),
    ] {
        assert!(settings.contains(theirs), "{theirs} is in the sample");
        settings = settings.replace(theirs, &ours);
    }
    settings.push_str(&format!("load_definitions = {}\n", file.display()));
    let plugins = "rabbitmq_mqtt,rabbitmq_auth_backend_http,rabbitmq_management";
    let server = start_rabbitmq(dir, port, &settings, plugins);
    eventually("RabbitMQ's management to listen", LIMIT, || {
        TcpStream::connect((Ipv4Addr::LOCALHOST, *management)).ok()
    });
    server
}

/// Returns the settings of a listener for MQTT and nothing else.
fn listening(port: u16) -> String {
    format!("listeners.tcp = none\nmqtt.listeners.tcp.1 = 127.0.0.1:{port}\n")
}

/// Returns virtual hosts, and the user that may do everything in each, as RabbitMQ reads them when it starts.
fn definitions(hosts: &[&str]) -> String {
    let (name, password) = RABBITMQ_LOGIN;
    let each = |row: fn(&str) -> String| hosts.iter().copied().map(row).collect::<Vec<_>>().join(",");
    let vhosts = each(|host| format!(r#"{{"name":"{host}"}}"#));
    let permissions = each(|host| {
        let name = RABBITMQ_LOGIN.0;
        format!(r#"{{"user":"{name}","vhost":"{host}","configure":".*","write":".*","read":".*"}}"#)
    });
    format!(
        r#"{{"users":[{{"name":"{name}","password":"{password}","tags":""}}],"vhosts":[{vhosts}],"permissions":[{permissions}]}}"#
    )
}

/// Starts it with these settings and plug-ins.
#[track_caller]
fn start_rabbitmq(dir: &Path, port: u16, settings: &str, plugins: &str) -> RabbitMq {
    let file = |name: &str, content: &str| {
        let file = dir.join(name);
        std::fs::write(&file, content).unwrap();
        file
    };
    let settings = file("rabbitmq.conf", &format!("{settings}log.console = true\nlog.file = false\n"));
    let plugins = file("enabled_plugins", &format!("[{plugins}].\n"));
    // Without one of its own it would start one for the whole machine, which nobody ends.
    let epmd_port = free_port().to_string();
    let on_loopback = |command: &mut Command| {
        command.env("ERL_EPMD_PORT", &epmd_port).env("ERL_EPMD_ADDRESS", "127.0.0.1");
    };
    let mut epmd = program("epmd");
    on_loopback(&mut epmd);
    let epmd = Program::server(epmd, epmd_port.parse().unwrap());
    let mut command = Command::new(RABBITMQ);
    on_loopback(&mut command);
    command
        .stdin(std::process::Stdio::null())
        // With this the script becomes the server, and ends with it.
        .env("RABBITMQ_ALLOW_INPUT", "1")
        .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "-noinput -kernel inet_dist_use_interface {127,0,0,1}")
        .env("HOME", dir)
        .env("HOSTNAME", "localhost")
        .env("RABBITMQ_NODENAME", format!("otaru{port}@localhost"))
        .env("RABBITMQ_DIST_PORT", free_port().to_string())
        .env("RABBITMQ_MNESIA_BASE", dir.join("mnesia"))
        .env("RABBITMQ_LOG_BASE", dir.join("log"))
        .env("RABBITMQ_LOGS", "-")
        .env("RABBITMQ_PID_FILE", dir.join("pid"))
        .env("RABBITMQ_CONFIG_FILE", settings)
        .env("RABBITMQ_CONF_ENV_FILE", dir.join("no-environment"))
        .env("RABBITMQ_ENABLED_PLUGINS_FILE", plugins);
    let server = Program::server_within(SLOW, command, port);
    RabbitMq { _server: server, _epmd: epmd }
}

/// Returns whether a CONNECT of 3.1.1 is accepted at a port, with the login of a virtual host if there is one.
fn lets_in(port: u16, host: Option<&str>) -> bool {
    let answer = || {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.write_all(&connect(host))?;
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).map(|()| answer)
    };
    // CONNACK: no session, code 0.
    answer().is_ok_and(|answer: [u8; 4]| answer == [0x20, 2, 0, 0])
}

/// Returns a CONNECT of 3.1.1 that starts anew.
fn connect(host: Option<&str>) -> Vec<u8> {
    let (flags, login) = match host {
        None => (0x02, vec![]),
        Some(host) => {
            let (name, password) = RABBITMQ_LOGIN;
            (0xC2, vec![format!("{host}:{name}"), password.to_owned()])
        }
    };
    let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', 4, flags, 0, 10];
    for text in std::iter::once("first".to_owned()).chain(login) {
        body.extend(u16::try_from(text.len()).unwrap().to_be_bytes());
        body.extend(text.bytes());
    }
    let len = u8::try_from(body.len()).unwrap();
    assert!(len < 0x80, "a length of one byte");
    [&[0x10, len], &body[..]].concat()
}
