//! A bare MQTT connection, in 5 or 3.1.1: it says exactly what a test tells it to, and acknowledges nothing on its own.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

use bytes::{Buf as _, BytesMut};
use mqtt5_protocol::packet::connack::ConnAckPacket;
use mqtt5_protocol::packet::connect::ConnectPacket;
use mqtt5_protocol::packet::disconnect::DisconnectPacket;
use mqtt5_protocol::packet::puback::PubAckPacket;
use mqtt5_protocol::packet::publish::PublishPacket;
use mqtt5_protocol::packet::subscribe::SubscribePacket;
use mqtt5_protocol::packet::{FixedHeader, MqttPacket, Packet};
use mqtt5_protocol::{ConnectOptions, QoS, ReasonCode};
use otaru_broker::Version;
use otaru_testing::LIMIT;

use crate::real_peers::broker::Broker;

/// Time in which nothing must come for "nothing comes".
const SILENCE: Duration = Duration::from_millis(700);

/// A connection.
pub(crate) struct Wire {
    stream: TcpStream,
    version: Version,
    buffer: BytesMut,
    messages: VecDeque<PublishPacket>,
    next_id: u16,
    /// Whether the broker had kept this client's session.
    pub(crate) session_present: bool,
}

/// A client with this id that begins anew.
pub(crate) fn clean(id: &str) -> ConnectOptions {
    ConnectOptions::new(id).with_clean_start(true).with_keep_alive(Duration::from_secs(60))
}

/// A client with this id that goes on where it was, and whose session is kept for a minute, or for ever in 3.1.1.
pub(crate) fn kept(id: &str) -> ConnectOptions {
    clean(id).with_clean_start(false).with_session_expiry_interval(60)
}

impl Wire {
    /// Connects, with the broker's login if it has one.
    #[track_caller]
    pub(crate) fn open(broker: &Broker, mut options: ConnectOptions) -> Self {
        if let Some(login) = broker.login() {
            options = options.with_credentials(&login.name, login.password);
        }
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, broker.port())).unwrap();
        stream.set_nodelay(true).unwrap();
        let version = broker.kind().spoken();
        let mut wire = Self {
            stream,
            version,
            buffer: BytesMut::new(),
            messages: VecDeque::new(),
            next_id: 1,
            session_present: false,
        };
        wire.send(&match version {
            Version::V5 => ConnectPacket::new(options),
            Version::V311 => ConnectPacket::new_v311(options),
        });
        let ConnAckPacket { reason_code, session_present, .. } = match wire.packet(LIMIT) {
            Heard::Packet(Packet::ConnAck(answer)) => answer,
            other => panic!("no CONNACK but {other:?}"),
        };
        assert_eq!(reason_code, ReasonCode::Success);
        wire.session_present = session_present;
        wire
    }

    /// Sends a packet.
    pub(crate) fn send(&mut self, packet: &impl MqttPacket) {
        let mut bytes = BytesMut::new();
        packet.encode(&mut bytes).unwrap();
        self.stream.write_all(&bytes).unwrap();
    }

    /// Subscribes at QoS 1.
    #[track_caller]
    pub(crate) fn subscribe(&mut self, filter: &str) {
        let id = self.id();
        let packet = match self.version {
            Version::V5 => SubscribePacket::new(id),
            Version::V311 => SubscribePacket::new_v311(id),
        };
        self.send(&packet.add_filter(filter, QoS::AtLeastOnce));
        self.until("SUBACK", |packet| matches!(packet, Packet::SubAck(answer) if answer.packet_id == id));
    }

    /// Publishes at QoS 1 and waits until the broker has it. In 3.1.1 it goes without its properties.
    #[track_caller]
    pub(crate) fn publish(&mut self, mut packet: PublishPacket) {
        packet.protocol_version = protocol_version(self.version);
        let id = self.id();
        self.send(&packet.with_packet_id(id));
        self.until("PUBACK", |packet| matches!(packet, Packet::PubAck(answer) if answer.packet_id == id));
    }

    /// Acknowledges a message.
    pub(crate) fn acknowledge(&mut self, message: &PublishPacket) {
        if let Some(id) = message.packet_id {
            self.send(&PubAckPacket::new(id));
        }
    }

    /// The next message; it is not acknowledged.
    #[track_caller]
    pub(crate) fn message(&mut self) -> PublishPacket {
        if let Some(message) = self.messages.pop_front() {
            return message;
        }
        match self.packet(LIMIT) {
            Heard::Packet(Packet::Publish(message)) => message,
            other => panic!("no message but {other:?}"),
        }
    }

    /// The next message, acknowledged.
    #[track_caller]
    pub(crate) fn take(&mut self) -> PublishPacket {
        let message = self.message();
        self.acknowledge(&message);
        message
    }

    /// Fails if there is another message.
    #[track_caller]
    pub(crate) fn is_silent(&mut self) {
        assert!(self.messages.is_empty(), "{:?}", self.messages);
        let heard = self.packet(SILENCE);
        assert!(matches!(heard, Heard::Nothing), "{heard:?}");
    }

    /// Waits until the broker closes the connection.
    #[track_caller]
    pub(crate) fn is_closed(&mut self) {
        loop {
            match self.packet(LIMIT) {
                Heard::End => return,
                Heard::Packet(_) => {}
                Heard::Nothing => panic!("the connection stays open"),
            }
        }
    }

    /// Says goodbye.
    pub(crate) fn disconnect(mut self) {
        self.send(&DisconnectPacket::new(ReasonCode::Success));
        self.is_closed();
    }

    fn id(&mut self) -> u16 {
        self.next_id += 1;
        self.next_id - 1
    }

    #[track_caller]
    fn until(&mut self, what: &str, like: impl Fn(&Packet) -> bool) {
        loop {
            match self.packet(LIMIT) {
                Heard::Packet(packet) if like(&packet) => return,
                Heard::Packet(Packet::Publish(message)) => self.messages.push_back(message),
                other => panic!("no {what} but {other:?}"),
            }
        }
    }

    fn packet(&mut self, limit: Duration) -> Heard {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(packet) = self.buffered() {
                return Heard::Packet(packet);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Heard::Nothing;
            }
            self.stream.set_read_timeout(Some(left)).unwrap();
            let mut bytes = [0; 16 << 10];
            match self.stream.read(&mut bytes) {
                Ok(0) => return Heard::End,
                Ok(len) => self.buffer.extend_from_slice(&bytes[..len]),
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock | ErrorKind::TimedOut => return Heard::Nothing,
                    _ => return Heard::End,
                },
            }
        }
    }

    fn buffered(&mut self) -> Option<Packet> {
        let mut bytes = &self.buffer[..];
        let header = FixedHeader::decode(&mut bytes).ok()?;
        let body = usize::try_from(header.remaining_length).unwrap();
        if bytes.len() < body {
            return None;
        }
        let head = self.buffer.len() - bytes.len();
        self.buffer.advance(head);
        let mut body = self.buffer.split_to(body).freeze();
        let version = protocol_version(self.version);
        Some(Packet::decode_from_body_with_version(header.packet_type, &header, &mut body, version).unwrap())
    }
}

/// Returns the number of a version on the wire.
fn protocol_version(version: Version) -> u8 {
    match version {
        Version::V5 => 5,
        Version::V311 => 4,
    }
}

/// Something that comes over a connection.
#[derive(Debug)]
enum Heard {
    Packet(Packet),
    /// Nothing, in time.
    Nothing,
    /// The broker closed it.
    End,
}
