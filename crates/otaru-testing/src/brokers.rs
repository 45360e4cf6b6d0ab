//! Brokers from the distribution, each alone on this machine with a port of its own and everything it writes in a folder of the test's.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::Command;

use crate::programs::{Program, program};
use crate::wait::{LIMIT, eventually, free_port};

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

/// Starts NATS, which lets everybody in. It speaks 3.1.1 only, and says so to who asks in 5.
#[track_caller]
pub fn nats(dir: &Path, port: u16) -> Program {
    let file = dir.join("nats.conf");
    // Sessions and retained messages are in JetStream.
    let settings = format!(
        "server_name: otaru\nlisten: \"127.0.0.1:{}\"\njetstream {{ store_dir: \"{}\" }}\n\
         mqtt {{ listen: \"127.0.0.1:{port}\" }}\n",
        free_port(),
        dir.join("jetstream").display(),
    );
    std::fs::write(&file, settings).unwrap();
    let mut command = program("nats-server");
    command.arg("-c").arg(file);
    Program::server(command, port)
}

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
    let file = |name: &str, content: &str| {
        let file = dir.join(name);
        std::fs::write(&file, content).unwrap();
        file
    };
    let settings = format!(
        "listeners.tcp = none\nmqtt.listeners.tcp.1 = 127.0.0.1:{port}\nmqtt.allow_anonymous = true\n\
         log.console = true\nlog.file = false\n"
    );
    let settings = file("rabbitmq.conf", &settings);
    let plugins = file("enabled_plugins", "[rabbitmq_mqtt].\n");
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
    let server = Program::server(command, port);
    eventually("RabbitMQ to let somebody in", LIMIT, || lets_in(port).then_some(()));
    RabbitMq { _server: server, _epmd: epmd }
}

/// Returns whether a CONNECT of 3.1.1 is accepted at a port.
fn lets_in(port: u16) -> bool {
    let answer = || {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.write_all(b"\x10\x11\0\x04MQTT\x04\x02\0\x0A\0\x05first")?;
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).map(|()| answer)
    };
    // CONNACK: no session, code 0.
    answer().is_ok_and(|answer: [u8; 4]| answer == [0x20, 2, 0, 0])
}
