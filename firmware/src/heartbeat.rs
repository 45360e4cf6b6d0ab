//! The application's sign of life: once a minute its version, uptime and reception, as JSON, to
//! `{topic}/{device}/heartbeat`.
//!
//! In MQTT 3.1.1, which every broker speaks, unless the settings say 5. The agent's connection is the agent's own. This is a connection for each message, closed after it: a user's
//! application would bring an MQTT client that can do more.

use core::fmt::Write as _;

use embassy_net::Stack;
use embassy_net::dns::DnsQueryType;
use embassy_net::tcp::TcpSocket;
use embassy_time::{Duration, Instant, Timer, with_timeout};
use embedded_io_async::Write as _;
use heapless::{String, Vec};
use otaru_setup::{MqttVersion, Settings};

use crate::app::VERSION;
use crate::wifi::Signal;

const PAUSE: Duration = Duration::from_secs(60);
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest packet: a connect with name, user and password, or a message with its topic.
const PACKET: usize = 320;

/// Sends it, for ever; not where the broker is spoken to over TLS, a session of which is too dear for this.
#[embassy_executor::task]
pub(crate) async fn run(
    stack: Stack<'static>,
    settings: &'static Settings,
    name: &'static str,
    topic: &'static str,
    signal: &'static Signal,
) {
    if settings.tls {
        log::info!("heartbeat: not over TLS, and the login is not sent in clear");
        return;
    }
    loop {
        stack.wait_config_up().await;
        match with_timeout(PATIENCE, send(stack, settings, name, topic, signal)).await {
            Ok(Some(())) => {}
            _ => log::warn!("heartbeat: not sent"),
        }
        Timer::after(PAUSE).await;
    }
}

async fn send(stack: Stack<'_>, settings: &Settings, name: &str, topic: &str, signal: &Signal) -> Option<()> {
    let address = *stack.dns_query(&settings.host, DnsQueryType::A).await.ok()?.first()?;
    let (mut rx, mut tx) = ([0; 64], [0; PACKET]);
    let mut socket = TcpSocket::new(stack, &mut rx, &mut tx);
    socket.connect((address, settings.port)).await.ok()?;
    let properties = settings.mqtt == MqttVersion::V5;
    let packets = [connect(settings, name, properties)?, publish(name, topic, signal, properties)?];
    socket.write_all(&packets[0]).await.ok()?;
    // CONNACK (section 3.2 of both standards): its type, its length, flags, and 0 for success.
    let mut answer = [0; 4];
    let mut filled = 0;
    while filled < answer.len() {
        match socket.read(&mut answer[filled..]).await {
            Ok(count) if count > 0 => filled += count,
            _ => return None,
        }
    }
    if answer[0] != 0x20 || answer[3] != 0 {
        return None;
    }
    socket.write_all(&packets[1]).await.ok()?;
    socket.write_all(&[0xE0, 0]).await.ok()?; // DISCONNECT
    socket.flush().await.ok()?;
    socket.close();
    socket.flush().await.ok()
}

type Packet = Vec<u8, PACKET>;

/// CONNECT (section 3.1) with a clean session; of version 5, and then with an empty list of `properties`, or 3.1.1.
fn connect(settings: &Settings, name: &str, properties: bool) -> Option<Packet> {
    let mut id: String<36> = String::new();
    write!(id, "{name}-app").ok()?;
    let login = if settings.user.is_empty() { 0 } else { 0xC0 };
    let mut body = Packet::new();
    text(&mut body, "MQTT")?;
    body.extend_from_slice(&[4 + u8::from(properties), 0x02 | login, 0, 60]).ok()?;
    if properties {
        body.push(0).ok()?;
    }
    text(&mut body, &id)?;
    if login != 0 {
        text(&mut body, &settings.user)?;
        text(&mut body, &settings.password)?;
    }
    packet(0x10, &body)
}

/// PUBLISH (section 3.3) with QoS 0.
fn publish(name: &str, topic: &str, signal: &Signal, properties: bool) -> Option<Packet> {
    let mut full: String<112> = String::new();
    write!(full, "{topic}/{name}/heartbeat").ok()?;
    let mut json: String<112> = String::new();
    write!(json, r#"{{"version":"{VERSION}","uptime":{}"#, Instant::now().as_secs()).ok()?;
    match signal.rssi() {
        Some(rssi) => write!(json, r#","rssi":{rssi}}}"#).ok()?,
        None => json.push('}').ok()?,
    }
    let mut body = Packet::new();
    text(&mut body, &full)?;
    if properties {
        body.push(0).ok()?;
    }
    body.extend_from_slice(json.as_bytes()).ok()?;
    packet(0x30, &body)
}

fn text(body: &mut Packet, text: &str) -> Option<()> {
    body.extend_from_slice(&u16::try_from(text.len()).ok()?.to_be_bytes()).ok()?;
    body.extend_from_slice(text.as_bytes()).ok()
}

/// A packet: its kind, its length in groups of seven bits (MQTT 5 section 1.5.5), its body.
fn packet(kind: u8, body: &[u8]) -> Option<Packet> {
    let mut out = Packet::new();
    out.push(kind).ok()?;
    match u8::try_from(body.len()).ok().filter(|len| *len < 128) {
        Some(len) => out.push(len).ok()?,
        None => {
            let high = u8::try_from(body.len() >> 7).ok().filter(|high| *high < 128)?;
            out.extend_from_slice(&[0x80 | (body.len() & 0x7F) as u8, high]).ok()?;
        }
    }
    out.extend_from_slice(body).ok()?;
    Some(out)
}
