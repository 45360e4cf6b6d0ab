//! `cargo xtask bench broker`: the embedded broker beside Mosquitto in the same run.
//!
//! A fleet of bare connections subscribes, each to a topic of its own; then one publisher sends a message at QoS 1 to each of
//! them, a window of them unacknowledged at a time, and the clock stops when the last has arrived. Both brokers are processes of
//! their own and take turns, so that what else the machine does hits both. The load client shares the machine with them: compare
//! the figures with each other, not with those of another machine.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use mqtt5_protocol::packet::MqttPacket;
use mqtt5_protocol::packet::connect::ConnectPacket;
use mqtt5_protocol::packet::puback::PubAckPacket;
use mqtt5_protocol::packet::publish::PublishPacket;
use mqtt5_protocol::packet::subscribe::SubscribePacket;
use mqtt5_protocol::{ConnectOptions, QoS};

use crate::shell::{cargo, find, program, root, run, works};

/// Most time for a broker to start, and to answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// A message's payload, in bytes: about an offer.
const PAYLOAD: usize = 300;
/// Connections that wait for their answers: fewer than Mosquitto's backlog of 100 holds, behind which each would wait for a second.
const ARRIVING: usize = 50;
/// Messages of the publisher that wait for their acknowledgement.
const WINDOW: usize = 256;
/// The types of packets, in the upper half of their first byte: MQTT 5, table 2-1.
pub(crate) const CONNACK: u8 = 2;
const PUBLISH: u8 = 3;
pub(crate) const PUBACK: u8 = 4;
const SUBACK: u8 = 9;

/// Options of `bench broker`.
#[derive(Args)]
pub(crate) struct Options {
    /// Number of times both are measured
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Connections at once; each takes a file descriptor here and one in the broker
    #[arg(long, default_value_t = 5_000)]
    clients: usize,
}

/// Prints what both take, and the embedded broker's part of Mosquitto's.
pub(crate) fn bench(options: &Options) -> Result<()> {
    if find("mosquitto").is_none() {
        println!("\nSKIPPED: brokers: mosquitto is missing; on Debian: apt-get install mosquitto");
        return Ok(());
    }
    raise_file_limit(options.clients)?;
    run(&mut cargo(&["build", "--quiet", "--release", "--package", "otaru"]))?;
    let folder = root().join("target/bench-broker");
    fs::create_dir_all(&folder)?;
    println!(
        "\n{} clients\n\n| broker | round | all connected, s | all messages arrived, s | KiB a connection | KiB after messages |\n\
         | --- | --- | --- | --- | --- | --- |",
        options.clients
    );
    let mut ratios = Vec::new();
    for round in 1..=options.rounds {
        let theirs = measure(mosquitto(&folder)?, options.clients).context("Mosquitto")?;
        theirs.print("Mosquitto", round);
        let ours = measure(embedded()?, options.clients).context("otaru broker")?;
        ours.print("otaru broker", round);
        ratios.push(ours.beside(&theirs));
    }
    let median = |pick: fn(&[f64; 4]) -> f64| {
        let mut all: Vec<f64> = ratios.iter().map(pick).collect();
        all.sort_by(f64::total_cmp);
        all.get(all.len() / 2).copied().unwrap_or(f64::NAN)
    };
    println!(
        "| otaru / Mosquitto | median | {:.2} | {:.2} | {:.2} | {:.2} |",
        median(|ratio| ratio[0]),
        median(|ratio| ratio[1]),
        median(|ratio| ratio[2]),
        median(|ratio| ratio[3])
    );
    Ok(())
}

/// For this process and those it starts.
///
/// # Errors
/// Returns an error if the system's hard limit is lower.
pub(crate) fn raise_file_limit(clients: usize) -> Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let wanted = u64::try_from(clients)? + 100;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= wanted) {
        return Ok(());
    }
    ensure!(
        limit.maximum.is_none_or(|most| most >= wanted),
        "{clients} clients need {wanted} open files, more than `ulimit -Hn` allows; --clients takes fewer"
    );
    setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limit.maximum })?;
    Ok(())
}

/// A broker's process; it ends with this.
struct Broker {
    child: Child,
    port: u16,
    /// Kept open: a program whose output nobody takes ends.
    _output: Option<BufReader<ChildStdout>>,
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn mosquitto(folder: &Path) -> Result<Broker> {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
    let user = if works(program("sh").args(["-c", "test $(id -u) = 0"])) { "user root\n" } else { "" };
    let file = folder.join("mosquitto.conf");
    fs::write(&file, format!("{user}listener {port} 127.0.0.1\nallow_anonymous true\nlog_type error\n"))?;
    let mut command = program(find("mosquitto").context("mosquitto is gone")?);
    let child = command.arg("-c").arg(file).stdin(Stdio::null()).spawn().context("cannot start mosquitto")?;
    let broker = Broker { child, port, _output: None };
    let start = Instant::now();
    while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
        ensure!(start.elapsed() < PATIENCE, "mosquitto does not start");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(broker)
}

fn embedded() -> Result<Broker> {
    let mut command = program(root().join("target/release/otaru"));
    command.args(["broker", "--listen", "127.0.0.1:0"]).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().context("cannot start otaru broker")?;
    let mut output = BufReader::new(child.stdout.take().context("it has no output")?);
    let mut broker = Broker { child, port: 0, _output: None };
    let mut line = String::new();
    output.read_line(&mut line)?;
    broker._output = Some(output);
    broker.port = line
        .trim_end()
        .rsplit(':')
        .next()
        .and_then(|port| port.parse().ok())
        .with_context(|| format!("no port in {line:?}"))?;
    Ok(broker)
}

/// Figures of one broker in one round.
struct Figures {
    connected: Duration,
    arrived: Duration,
    /// Resident memory of its process for each connection, in KiB: once all have subscribed, and after the messages.
    idle: f64,
    after: f64,
}

impl Figures {
    fn print(&self, name: &str, round: usize) {
        println!(
            "| {name} | {round} | {:.2} | {:.3} | {:.1} | {:.1} |",
            self.connected.as_secs_f64(),
            self.arrived.as_secs_f64(),
            self.idle,
            self.after
        );
    }

    fn beside(&self, other: &Self) -> [f64; 4] {
        [
            self.connected.as_secs_f64() / other.connected.as_secs_f64(),
            self.arrived.as_secs_f64() / other.arrived.as_secs_f64(),
            self.idle / other.idle,
            self.after / other.after,
        ]
    }
}

fn topic(client: usize) -> String {
    format!("ESP32/ota/device-{client:05}/update")
}

fn measure(broker: Broker, clients: usize) -> Result<Figures> {
    let empty = resident(&broker)?;
    let each = |now: u64| now.saturating_sub(empty) as f64 / clients as f64;
    let start = Instant::now();
    let mut fleet = Vec::with_capacity(clients);
    for client in 0..clients {
        let mut wire = Wire::open(broker.port, &format!("device-{client:05}"))?;
        // Sent behind the CONNECT, as MQTT 5 allows (section 3.1.4), so that nobody waits for one answer at a time.
        wire.send(&SubscribePacket::new(1).add_filter(topic(client), QoS::AtLeastOnce))?;
        fleet.push(wire);
        if fleet.len() % ARRIVING == 0 || fleet.len() == clients {
            let answered = (fleet.len() - 1) / ARRIVING * ARRIVING;
            for wire in fleet.iter_mut().skip(answered) {
                wire.expect(CONNACK)?;
                wire.expect(SUBACK)?;
            }
        }
    }
    let connected = start.elapsed();
    let idle = each(resident(&broker)?);
    let start = Instant::now();
    let port = broker.port;
    let publisher = std::thread::spawn(move || publish(port, clients));
    for (client, wire) in fleet.iter_mut().enumerate() {
        let body = wire.expect(PUBLISH)?;
        let topic = topic(client);
        ensure!(
            body.get(2..2 + topic.len()) == Some(topic.as_bytes()),
            "client {client} got another's message"
        );
        ensure!(body.ends_with(&[b'x'; PAYLOAD]), "client {client} got another payload");
        let id = body.get(2 + topic.len()..4 + topic.len()).context("no packet identifier")?;
        wire.send(&PubAckPacket::new(u16::from_be_bytes([id[0], id[1]])))?;
    }
    let arrived = start.elapsed();
    match publisher.join() {
        Ok(result) => result.context("the publisher")?,
        Err(_) => bail!("the publisher panicked"),
    }
    let after = each(resident(&broker)?);
    Ok(Figures { connected, arrived, idle, after })
}

/// Publishes one message to each client.
fn publish(port: u16, clients: usize) -> Result<()> {
    let mut wire = Wire::open(port, "publisher")?;
    wire.expect(CONNACK)?;
    for client in 0..clients {
        if client >= WINDOW {
            wire.expect(PUBACK)?;
        }
        let id = u16::try_from(client % usize::from(u16::MAX))? + 1;
        wire.send(
            &PublishPacket::new(topic(client), vec![b'x'; PAYLOAD], QoS::AtLeastOnce).with_packet_id(id),
        )?;
    }
    (0..clients.min(WINDOW)).try_for_each(|_| wire.expect(PUBACK).map(drop))
}

/// Resident memory of a process, in KiB.
fn resident(broker: &Broker) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", broker.child.id()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

/// One connection, with nothing to it but a socket.
pub(crate) struct Wire(BufReader<TcpStream>);

impl Wire {
    fn open(port: u16, id: &str) -> Result<Self> {
        Self::connect(port, ConnectOptions::new(id))
    }

    /// Sends a CONNECT; what is answered is not waited for.
    ///
    /// # Errors
    /// Returns an error if nothing listens at the port.
    pub(crate) fn connect(port: u16, options: ConnectOptions) -> Result<Self> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).context("cannot connect")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut wire = Self(BufReader::with_capacity(1 << 10, stream));
        let options = options.with_clean_start(true).with_keep_alive(Duration::from_secs(600));
        wire.send(&ConnectPacket::new(options))?;
        Ok(wire)
    }

    /// Sends a packet.
    ///
    /// # Errors
    /// Returns an error if the packet cannot be encoded, or the connection is closed.
    pub(crate) fn send(&mut self, packet: &impl MqttPacket) -> Result<()> {
        let mut bytes = Vec::new();
        packet.encode(&mut bytes)?;
        Ok(self.0.get_mut().write_all(&bytes)?)
    }

    /// The body of the next packet, which must be of this type and tell of no failure.
    ///
    /// # Errors
    /// Returns an error if the connection is closed, the packet is of another type, or its reason code tells of a failure.
    pub(crate) fn expect(&mut self, kind: u8) -> Result<Vec<u8>> {
        let first = self.byte()?;
        let (mut len, mut shift) = (0, 0);
        loop {
            let byte = self.byte()?;
            len |= usize::from(byte & 0x7F) << shift;
            shift += 7;
            if byte < 0x80 {
                break;
            }
            ensure!(shift < 28, "no length");
        }
        let mut body = vec![0; len];
        self.0.read_exact(&mut body)?;
        ensure!(first >> 4 == kind, "a packet of type {} where {kind} was due", first >> 4);
        let reason = match kind {
            CONNACK => body.get(1),
            PUBACK => body.get(2),
            SUBACK => body.last(),
            _ => None,
        };
        ensure!(reason.is_none_or(|reason| *reason < 0x80), "refused: {reason:?}");
        Ok(body)
    }

    fn byte(&mut self) -> Result<u8> {
        let mut byte = [0];
        self.0.read_exact(&mut byte).context("no answer")?;
        Ok(byte[0])
    }
}
