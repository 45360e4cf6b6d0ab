//! A client that writes packets byte by byte and tells what it hears.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

/// Patience with the broker; only a test that fails uses it up.
const PATIENCE: Duration = Duration::from_secs(20);

/// Version of the protocol: its level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    V311 = 4,
    V5 = 5,
}

pub(crate) const BOTH: [Level; 2] = [Level::V311, Level::V5];

pub(crate) fn string(text: &str) -> Vec<u8> {
    binary(text.as_bytes())
}

pub(crate) fn binary(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_be_bytes(), bytes].concat()
}

pub(crate) fn varint(mut value: usize) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 128 {
        out.push((value % 128) as u8 | 128);
        value /= 128;
    }
    out.push(value as u8);
    out
}

pub(crate) fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    [&[first][..], &varint(body.len()), body].concat()
}

/// A will to connect with.
#[derive(Debug, Clone)]
pub(crate) struct Will {
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) flags: u8,
    pub(crate) properties: Vec<u8>,
}

/// A CONNECT to be written.
#[derive(Debug, Clone)]
pub(crate) struct Connect {
    pub(crate) level: Level,
    pub(crate) client: String,
    pub(crate) clean: bool,
    pub(crate) keep_alive: u16,
    pub(crate) properties: Vec<u8>,
    pub(crate) will: Option<Will>,
    pub(crate) user: Option<String>,
    pub(crate) password: Option<String>,
}

impl Connect {
    pub(crate) fn new(level: Level, client: &str) -> Self {
        Self {
            level,
            client: client.into(),
            clean: true,
            keep_alive: 30,
            properties: Vec::new(),
            will: None,
            user: Some("house".into()),
            password: Some("good".into()),
        }
    }

    pub(crate) fn user(mut self, user: &str) -> Self {
        self.user = Some(user.into());
        self
    }

    pub(crate) fn password(mut self, password: &str) -> Self {
        self.password = Some(password.into());
        self
    }

    pub(crate) fn properties(mut self, properties: &[u8]) -> Self {
        self.properties.extend_from_slice(properties);
        self
    }

    pub(crate) fn keep_alive(mut self, seconds: u16) -> Self {
        self.keep_alive = seconds;
        self
    }

    /// Continues the session, which lives an hour where that can be said.
    pub(crate) fn lasting(mut self) -> Self {
        self.clean = false;
        if self.level == Level::V5 {
            self.properties.extend([17, 0, 0, 14, 16]);
        }
        self
    }

    pub(crate) fn will(mut self, topic: &str, payload: &str) -> Self {
        let (topic, payload) = (topic.into(), payload.into());
        self.will = Some(Will { topic, payload, flags: 0, properties: Vec::new() });
        self
    }

    pub(crate) fn will_properties(mut self, properties: &[u8]) -> Self {
        self.will.as_mut().unwrap().properties = properties.to_vec();
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let flag = |set: bool, bit: u8| u8::from(set) << bit;
        let will_flags = self.will.as_ref().map_or(0, |will| 4 | will.flags);
        let flags = flag(self.clean, 1)
            | will_flags
            | flag(self.user.is_some(), 7)
            | flag(self.password.is_some(), 6);
        let mut body =
            [&string("MQTT")[..], &[self.level as u8, flags], &self.keep_alive.to_be_bytes()].concat();
        if self.level == Level::V5 {
            body.extend(varint(self.properties.len()));
            body.extend(&self.properties);
        }
        body.extend(string(&self.client));
        if let Some(will) = &self.will {
            if self.level == Level::V5 {
                body.extend(varint(will.properties.len()));
                body.extend(&will.properties);
            }
            body.extend(string(&will.topic));
            body.extend(binary(&will.payload));
        }
        body.extend(self.user.iter().flat_map(|user| string(user)));
        body.extend(self.password.iter().flat_map(|password| string(password)));
        packet(0x10, &body)
    }
}

/// A packet that was heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Heard {
    pub(crate) first: u8,
    pub(crate) body: Vec<u8>,
}

/// A PUBLISH that was heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) topic: String,
    pub(crate) payload: String,
    pub(crate) qos: u8,
    pub(crate) retain: bool,
    pub(crate) repeated: bool,
    pub(crate) id: u16,
    pub(crate) properties: Vec<u8>,
}

fn take_varint(bytes: &mut &[u8]) -> usize {
    let (mut value, mut place) = (0, 0);
    loop {
        let byte = bytes[0];
        *bytes = &bytes[1..];
        value |= usize::from(byte & 127) << place;
        place += 7;
        if byte < 128 {
            return value;
        }
    }
}

impl Heard {
    pub(crate) fn message(&self, level: Level) -> Message {
        assert_eq!(self.first >> 4, 3, "no PUBLISH: {self:?}");
        let length = usize::from(u16::from_be_bytes([self.body[0], self.body[1]]));
        let (topic, mut rest) = (&self.body[2..2 + length], &self.body[2 + length..]);
        let qos = (self.first >> 1) & 3;
        let mut id = 0;
        if qos > 0 {
            id = u16::from_be_bytes([rest[0], rest[1]]);
            rest = &rest[2..];
        }
        let mut properties = Vec::new();
        if level == Level::V5 {
            let length = take_varint(&mut rest);
            properties = rest[..length].to_vec();
            rest = &rest[length..];
        }
        Message {
            topic: String::from_utf8(topic.to_vec()).unwrap(),
            payload: String::from_utf8_lossy(rest).into_owned(),
            qos,
            retain: self.first & 1 != 0,
            repeated: self.first & 8 != 0,
            id,
            properties,
        }
    }
}

/// A stream of any kind.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// A connection to the broker.
pub(crate) struct Client {
    pub(crate) level: Level,
    stream: Box<dyn Stream>,
    buffer: Vec<u8>,
    pub(crate) connack: Vec<u8>,
}

impl Client {
    pub(crate) fn over(stream: impl Stream + 'static, level: Level) -> Self {
        Self { level, stream: Box::new(stream), buffer: Vec::new(), connack: Vec::new() }
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        timeout(PATIENCE, self.stream.write_all(bytes)).await.expect("the broker reads").unwrap();
    }

    /// Sends, though the broker may have closed.
    pub(crate) async fn try_send(&mut self, bytes: &[u8]) {
        let _ = timeout(PATIENCE, self.stream.write_all(bytes)).await.expect("the broker reads or closes");
    }

    /// Returns the next packet; none at the end of the stream.
    pub(crate) async fn hear(&mut self) -> Option<Heard> {
        loop {
            if let Some(heard) = self.cut() {
                return Some(heard);
            }
            let mut piece = vec![0; 65536];
            let read =
                timeout(PATIENCE, self.stream.read(&mut piece)).await.expect("the broker says something");
            match read {
                Ok(0) | Err(_) => return None,
                Ok(count) => self.buffer.extend(&piece[..count]),
            }
        }
    }

    fn cut(&mut self) -> Option<Heard> {
        let end = self.buffer.iter().skip(1).position(|byte| *byte < 128)? + 2;
        let mut length = &self.buffer[1..end];
        let length = take_varint(&mut length);
        if self.buffer.len() < end + length {
            return None;
        }
        let heard = Heard { first: self.buffer[0], body: self.buffer[end..end + length].to_vec() };
        self.buffer.drain(..end + length);
        Some(heard)
    }

    pub(crate) async fn next(&mut self) -> Heard {
        self.hear().await.expect("the connection is open")
    }

    pub(crate) async fn message(&mut self) -> Message {
        self.next().await.message(self.level)
    }

    /// Holds that nothing else was sent so far: the answer to a ping is next.
    pub(crate) async fn is_quiet(&mut self) {
        self.send(&[0xC0, 0]).await;
        assert_eq!(self.next().await, Heard { first: 0xD0, body: vec![] });
    }

    /// Returns the reason of the DISCONNECT that ends the stream; none without one.
    pub(crate) async fn ending(&mut self) -> Option<u8> {
        let mut reason = None;
        while let Some(heard) = self.hear().await {
            if heard.first == 0xE0 {
                reason = heard.body.first().copied();
            }
        }
        reason
    }

    pub(crate) async fn subscribe(&mut self, filter: &str, options: u8) -> u8 {
        self.subscribe_with(filter, options, &[]).await
    }

    pub(crate) async fn subscribe_with(&mut self, filter: &str, options: u8, properties: &[u8]) -> u8 {
        let mut body = vec![0, 77];
        if self.level == Level::V5 {
            body.extend(varint(properties.len()));
            body.extend(properties);
        }
        body.extend(string(filter));
        body.push(options);
        self.send(&packet(0x82, &body)).await;
        let answer = self.next().await;
        assert_eq!((answer.first, &answer.body[..2]), (0x90, &[0, 77][..]));
        *answer.body.last().unwrap()
    }

    pub(crate) async fn unsubscribe(&mut self, filter: &str) -> Vec<u8> {
        let mut body = vec![0, 78];
        if self.level == Level::V5 {
            body.push(0);
        }
        body.extend(string(filter));
        self.send(&packet(0xA2, &body)).await;
        let answer = self.next().await;
        assert_eq!((answer.first, &answer.body[..2]), (0xB0, &[0, 78][..]));
        answer.body[2..].to_vec()
    }

    pub(crate) fn publish_bytes(
        &self,
        topic: &str,
        payload: &[u8],
        flags: u8,
        id: u16,
        properties: &[u8],
    ) -> Vec<u8> {
        let mut body = string(topic);
        if flags & 6 != 0 {
            body.extend(id.to_be_bytes());
        }
        if self.level == Level::V5 {
            body.extend(varint(properties.len()));
            body.extend(properties);
        }
        body.extend(payload);
        packet(0x30 | flags, &body)
    }

    /// Publishes with QoS 0 and waits until the broker has read it.
    pub(crate) async fn publish(&mut self, topic: &str, payload: &str) {
        self.publish_with(topic, payload, 0, &[]).await;
    }

    /// Publishes; flags are retain (1) and QoS (2, 4). Waits for the answer, whose reason it returns.
    pub(crate) async fn publish_with(
        &mut self,
        topic: &str,
        payload: &str,
        flags: u8,
        properties: &[u8],
    ) -> u8 {
        let bytes = self.publish_bytes(topic, payload.as_bytes(), flags, 9, properties);
        self.send(&bytes).await;
        let reason = |heard: Heard, first| {
            assert_eq!((heard.first, &heard.body[..2]), (first, &[0, 9][..]), "{heard:?}");
            heard.body.get(2).copied().unwrap_or(0)
        };
        match flags & 6 {
            0 => {
                self.is_quiet().await;
                0
            }
            2 => reason(self.next().await, 0x40),
            _ => {
                let first = reason(self.next().await, 0x50);
                if first < 0x80 {
                    self.send(&[0x62, 2, 0, 9]).await;
                    assert_eq!(reason(self.next().await, 0x70), 0);
                }
                first
            }
        }
    }

    /// Acknowledges a message of QoS 1.
    pub(crate) async fn puback(&mut self, id: u16) {
        let [high, low] = id.to_be_bytes();
        self.send(&[0x40, 2, high, low]).await;
    }

    /// Says goodbye and waits until the broker has closed.
    pub(crate) async fn disconnect(mut self) {
        self.send(&[0xE0, 0]).await;
        assert_eq!(self.ending().await, None);
    }
}
