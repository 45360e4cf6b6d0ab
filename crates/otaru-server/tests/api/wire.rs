//! A client of MQTT 3.1.1 that is nothing but bytes, for tests of logins that end.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::bench::{Bench, LIMIT};

/// End of a connection in place of an answer; no code of MQTT.
pub(crate) const ENDED: u8 = u8::MAX;

/// Time in which nothing must come for "nothing comes".
const SILENCE: Duration = Duration::from_millis(300);

/// A connection that was let in, over a stream of whatever kind.
pub(crate) struct Wire(Box<dyn Stream>);

pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// One packet: its first byte, and what follows the length.
type Packet = (u8, Vec<u8>);

fn text(text: &str) -> Vec<u8> {
    [&u16::try_from(text.len()).unwrap().to_be_bytes(), text.as_bytes()].concat()
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let (low, high) = (body.len() % 128, body.len() / 128);
    assert!(high < 128, "two bytes of length");
    let length = match high {
        0 => vec![low],
        _ => vec![low | 0x80, high],
    };
    let length = length.into_iter().map(|byte| u8::try_from(byte).unwrap());
    [vec![first], length.collect(), body.to_vec()].concat()
}

/// Version of MQTT, as CONNECT has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    V311 = 4,
    V5 = 5,
}

impl Wire {
    /// Connects with a login; `None` if it is refused.
    pub(crate) async fn connect(bench: &Bench, client: &str, username: &str, password: &str) -> Option<Self> {
        Self::login(bench, Level::V311, client, username, password).await.ok()
    }

    /// Connects with a login under this version.
    ///
    /// # Errors
    /// The code of a refusal.
    pub(crate) async fn login(
        bench: &Bench,
        level: Level,
        client: &str,
        username: &str,
        password: &str,
    ) -> Result<Self, u8> {
        let url = bench.server.mqtt_url();
        let stream = TcpStream::connect((url.host.as_str(), url.port)).await.unwrap();
        Self::over(stream, level, client, username, password).await
    }

    /// Logs in over a stream.
    ///
    /// # Errors
    /// The code of a refusal; [`ENDED`] if the connection ends without one.
    pub(crate) async fn over(
        stream: impl Stream + 'static,
        level: Level,
        client: &str,
        username: &str,
        password: &str,
    ) -> Result<Self, u8> {
        let mut wire = Self(Box::new(stream));
        // A clean session, user name and password; 60 s of keep-alive: MQTT 3.1.1, section 3.1; no properties in 5.
        let properties: &[u8] = if level == Level::V5 { &[0] } else { &[] };
        let head = [&text("MQTT")[..], &[level as u8, 0b1100_0010, 0, 60], properties].concat();
        let body = [head, text(client), text(username), text(password)].concat();
        // Whoever is refused by TLS 1.3 hears of it after its own side of the handshake.
        let sent = wire.0.write_all(&packet(0x10, &body)).await;
        let answer = if sent.is_ok() { wire.read().await } else { None };
        let Some((first, body)) = answer else { return Err(ENDED) };
        assert_eq!(first, 0x20);
        match body.get(1) {
            Some(0) => Ok(wire),
            code => Err(code.copied().unwrap_or(u8::MAX)),
        }
    }

    /// Publishes a retained message at QoS 1, and waits until the broker has it.
    pub(crate) async fn retain(&mut self, topic: &str, payload: &str) {
        let body = [text(topic), vec![0, 7], payload.as_bytes().to_vec()].concat();
        self.0.write_all(&packet(0x33, &body)).await.unwrap();
        assert_eq!(self.read().await.unwrap().0, 0x40);
    }

    /// Publishes a retained message at QoS 1 under version 5; returns the reason code of the answer.
    pub(crate) async fn keeps(&mut self, topic: &str, payload: &str) -> u8 {
        let body = [text(topic), vec![0, 7, 0], payload.as_bytes().to_vec()].concat();
        self.0.write_all(&packet(0x33, &body)).await.unwrap();
        let (first, body) = self.read().await.unwrap();
        assert_eq!(first, 0x40);
        body.get(2).copied().unwrap_or(0)
    }

    /// Subscribes at QoS 0, and returns the topics of the retained messages that come.
    pub(crate) async fn retained(&mut self, filter: &str) -> Vec<String> {
        let body = [vec![0, 9], text(filter), vec![0]].concat();
        self.0.write_all(&packet(0x82, &body)).await.unwrap();
        let mut topics = Vec::new();
        while let Ok(Some((first, body))) = timeout(SILENCE, self.read()).await {
            if first >> 4 == 3 {
                let length = usize::from(u16::from_be_bytes([body[0], body[1]]));
                topics.push(String::from_utf8(body[2..2 + length].to_vec()).unwrap());
            }
        }
        topics
    }

    /// Waits until the broker ends the connection.
    pub(crate) async fn ended(mut self) {
        let end = async { while self.read().await.is_some() {} };
        timeout(LIMIT, end).await.expect("the connection goes on");
    }

    /// Fails if the connection ends, or anything comes.
    pub(crate) async fn goes_on(&mut self) {
        self.0.write_all(&[0xC0, 0]).await.unwrap();
        assert_eq!(self.read().await, Some((0xD0, Vec::new())));
    }

    /// Reads a packet; `None` at the end.
    async fn read(&mut self) -> Option<Packet> {
        let first = self.0.read_u8().await.ok()?;
        let mut length = 0;
        for shift in [0, 7, 14, 21] {
            let byte = self.0.read_u8().await.ok()?;
            length |= usize::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).await.ok()?;
        Some((first, body))
    }
}
