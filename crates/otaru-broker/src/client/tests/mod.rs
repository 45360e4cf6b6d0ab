//! The client against brokers that say exactly what a test tells them to.

mod connection;
mod handshake;
mod reconnect;

use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::pace::Pace;
use super::url::BrokerUrl;
use super::{Incoming, Message, Mqtt};
use crate::version::Version;
use otaru_format::mqtt::MqttVersion;

/// Longest that anything may take.
const LIMIT: Duration = Duration::from_secs(20);
/// CONNACKs that let in.
const ACCEPTED_5: &[u8] = &[0x20, 3, 0, 0, 0];
const ACCEPTED_311: &[u8] = &[0x20, 2, 0, 0];

/// Returns times with short pauses and patience for an answer.
fn quick() -> Pace {
    let ms = Duration::from_millis;
    Pace { soon: ms(1), shortest_pause: ms(2), longest_pause: ms(5), ..Pace::default() }
}

/// A broker at a port of this machine.
struct Fake(TcpListener);

impl Fake {
    async fn start() -> Self {
        Self(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap())
    }

    fn url(&self, version: MqttVersion) -> BrokerUrl {
        BrokerUrl::new("127.0.0.1", self.0.local_addr().unwrap().port()).with_version(version)
    }

    /// Takes the next connection and its CONNECT.
    async fn accept(&self) -> Peer {
        let (stream, _) = timeout(LIMIT, self.0.accept()).await.expect("nobody comes").unwrap();
        let mut peer = Peer { stream, version: Version::V5 };
        let (first, body) = peer.packet().await;
        assert_eq!((first, body.get(..6)), (0x10, Some(&b"\0\x04MQTT"[..])));
        peer.version = match body[6] {
            4 => Version::V311,
            5 => Version::V5,
            other => panic!("version {other}"),
        };
        peer
    }

    /// Lets the next connection in.
    async fn let_in(&self) -> Peer {
        let mut peer = self.accept().await;
        peer.let_in().await;
        peer
    }
}

/// A connection of the client's.
struct Peer {
    stream: TcpStream,
    version: Version,
}

impl Peer {
    async fn let_in(&mut self) {
        let accepted = if self.version == Version::V5 { ACCEPTED_5 } else { ACCEPTED_311 };
        self.send(accepted).await;
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// Reads a packet: its first byte and its body.
    async fn packet(&mut self) -> (u8, Vec<u8>) {
        let read = async {
            let first = self.stream.read_u8().await.expect("a packet");
            let (mut len, mut shift) = (0, 0);
            loop {
                let byte = self.stream.read_u8().await.unwrap();
                len |= usize::from(byte & 0x7F) << shift;
                shift += 7;
                if byte & 0x80 == 0 {
                    break;
                }
            }
            let mut body = vec![0; len];
            self.stream.read_exact(&mut body).await.unwrap();
            (first, body)
        };
        timeout(LIMIT, read).await.expect("no packet comes")
    }

    /// Reads a SUBSCRIBE and grants it; returns the filter.
    async fn grant(&mut self) -> String {
        self.answer_subscribe(1).await
    }

    /// Reads a SUBSCRIBE and answers it with this code; returns the filter.
    async fn answer_subscribe(&mut self, code: u8) -> String {
        let (first, body) = self.packet().await;
        assert_eq!(first, 0x82);
        let (id, rest) = body.split_at(2);
        let rest = if self.version == Version::V5 { &rest[1..] } else { rest };
        let filter = String::from_utf8(rest[2..rest.len() - 1].to_vec()).unwrap();
        match self.version {
            Version::V5 => self.send(&[0x90, 4, id[0], id[1], 0, code]).await,
            Version::V311 => self.send(&[0x90, 3, id[0], id[1], code]).await,
        }
        filter
    }

    /// Sends a message, at QoS 1 with an identifier.
    async fn message(&mut self, topic: &str, id: Option<u16>, payload: &[u8]) {
        let first = if id.is_some() { 0x32 } else { 0x30 };
        let mut body = (topic.len() as u16).to_be_bytes().to_vec();
        body.extend_from_slice(topic.as_bytes());
        body.extend(id.map(u16::to_be_bytes).into_iter().flatten());
        if self.version == Version::V5 {
            body.push(0);
        }
        body.extend_from_slice(payload);
        let (mut bytes, mut len) = (vec![first], body.len());
        while len > 0x7F {
            bytes.push((len & 0x7F) as u8 | 0x80);
            len >>= 7;
        }
        bytes.push(len as u8);
        bytes.extend_from_slice(&body);
        self.send(&bytes).await;
    }

    /// Reads a PUBLISH at QoS 1; returns its identifier.
    async fn published(&mut self) -> [u8; 2] {
        let (first, body) = self.packet().await;
        assert_eq!(first & 0xF6, 0x32, "{first:x} {body:x?}");
        let topic = usize::from(u16::from_be_bytes([body[0], body[1]]));
        [body[2 + topic], body[3 + topic]]
    }

    /// Fails if the client says something.
    async fn is_silent(&self) {
        let said = timeout(Duration::from_millis(50), self.stream.peek(&mut [0])).await;
        assert!(said.is_err(), "{said:?}");
    }

    /// Fails unless the client has closed.
    async fn ends(mut self) {
        let mut rest = Vec::new();
        // A reset is as good as an end.
        let _ = timeout(LIMIT, self.stream.read_to_end(&mut rest)).await.expect("it stays open");
    }
}

/// Connects to a broker that lets in.
async fn pair(fake: &Fake, version: MqttVersion, pace: Pace) -> (Mqtt, Peer) {
    let url = fake.url(version);
    let (mqtt, peer) = tokio::join!(Mqtt::connect_at(&url, "test", pace), fake.let_in());
    (mqtt.unwrap(), peer)
}

/// Subscribes, at a broker that grants it.
async fn subscribed(mqtt: &Mqtt, peer: &mut Peer, filter: &str) {
    let (granted, asked) = tokio::join!(mqtt.subscribe(filter), peer.grant());
    granted.unwrap();
    assert_eq!(asked, filter);
}

async fn next(mqtt: &mut Mqtt) -> Incoming {
    timeout(LIMIT, mqtt.next()).await.expect("nothing arrives")
}

async fn next_message(mqtt: &mut Mqtt) -> Message {
    match next(mqtt).await {
        Incoming::Message(message) => message,
        other => panic!("{other:?}"),
    }
}

/// Waits for the loss of the connection; returns the reason.
async fn lost(mqtt: &mut Mqtt) -> String {
    match next(mqtt).await {
        Incoming::Lost(why) => why,
        other => panic!("{other:?}"),
    }
}
