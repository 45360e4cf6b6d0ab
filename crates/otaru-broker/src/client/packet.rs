//! Packets of a client: those that it sends as bytes, and those that come, in the client's own terms. Sans-I/O.

use std::time::Duration;

use super::frame::LONGEST_BODY;
use super::message::Message;
use super::url::Login;
use super::words;
pub(super) use crate::codec::connack::CONNACK;
use crate::codec::connack::{self, Terms};
use crate::codec::encode::LONGEST_PACKET;
use crate::codec::fault::Fault;
use crate::codec::publish::Head;
use crate::codec::request::{self, CleanConnect};
pub(super) use crate::codec::request::{DISCONNECT, PINGREQ, puback};
use crate::codec::server_packet::ServerPacket;
use crate::codec::topic;
use crate::version::{Qos, Version};

/// Bytes of the largest head of a packet: its type and a length of four bytes.
const HEAD: usize = 5;

/// CONNECT of a session that begins clean and ends with the connection.
pub(super) fn connect(
    version: Version,
    client: &str,
    keep_alive: Duration,
    login: Option<&Login>,
) -> Result<Vec<u8>, Fault> {
    let connect = CleanConnect {
        version,
        client,
        login: login.map(|login| (login.username.as_str(), login.password.expose().as_bytes())),
        keep_alive: u16::try_from(keep_alive.as_secs()).unwrap_or(u16::MAX),
        maximum_packet_size: u32::try_from(LONGEST_BODY + HEAD).unwrap_or(u32::MAX),
    };
    let mut out = Vec::new();
    connect.write(&mut out)?;
    Ok(out)
}

/// SUBSCRIBE to one filter at QoS 1.
pub(super) fn subscribe(version: Version, id: u16, filter: &str) -> Result<Vec<u8>, Fault> {
    let mut out = Vec::new();
    request::subscribe(&mut out, version, id, filter)?;
    Ok(out)
}

/// A message on its way out.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) topic: String,
    pub(super) payload: Vec<u8>,
    pub(super) retain: bool,
    /// Time after which the broker forgets it; 3.1.1 cannot say so.
    pub(super) expiry: Option<Duration>,
}

/// Reason for which a message is not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unsent {
    /// A topic with wildcards, without a character, or too long.
    #[error("it is no topic for a message")]
    Topic,
    /// The broker takes packets up to this length.
    #[error("it takes packets of {0} bytes at most")]
    TooLong(usize),
}

/// PUBLISH at QoS 1, or at QoS 0 without an identifier, for a broker that takes packets up to `longest` bytes.
pub(super) fn publish(
    version: Version,
    message: &Outgoing,
    id: Option<u16>,
    longest: usize,
) -> Result<Vec<u8>, Unsent> {
    if !topic::is_topic(&message.topic) {
        return Err(Unsent::Topic);
    }
    let seconds = message.expiry.map(|expiry| u32::try_from(expiry.as_secs()).unwrap_or(u32::MAX).max(1));
    let head = Head {
        topic: &message.topic,
        qos: if id.is_some() { Qos::One } else { Qos::Zero },
        retain: message.retain,
        repeated: false,
        id: id.unwrap_or_default(),
        expiry: seconds,
        properties: &[],
        subscriptions: &[],
        payload: message.payload.len(),
    };
    let length = head.packet_length(version);
    if length > longest {
        return Err(Unsent::TooLong(longest));
    }
    let mut out = Vec::with_capacity(length);
    head.write(version, &mut out);
    out.extend_from_slice(&message.payload);
    Ok(out)
}

/// Limits of a connection, as far as the broker tells any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Limits {
    /// QoS 1 messages under way at once.
    pub(super) under_way: usize,
    /// Bytes of a packet.
    pub(super) packet: usize,
    /// Whether QoS 1 is taken.
    pub(super) qos1: bool,
    /// Whether retained messages are taken.
    pub(super) retain: bool,
    /// Time after which the broker ends a silent connection, where it wants another than was asked for.
    pub(super) keep_alive: Option<Duration>,
}

impl From<Terms> for Limits {
    fn from(terms: Terms) -> Self {
        let packet = terms.maximum_packet_size.and_then(|most| usize::try_from(most).ok());
        let seconds = terms.keep_alive.filter(|seconds| *seconds > 0);
        Self {
            under_way: terms.receive_maximum.into(),
            packet: packet.unwrap_or(LONGEST_PACKET).min(LONGEST_PACKET),
            qos1: terms.qos1,
            retain: terms.retain,
            keep_alive: seconds.map(|seconds| Duration::from_secs(seconds.into())),
        }
    }
}

/// Answer to a CONNECT, whichever version's it is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Connack {
    /// The broker lets us in.
    Accepted(Limits),
    /// It does not speak this version.
    WrongVersion,
    /// The login is missing or wrong; what the broker adds.
    Login(Option<String>),
    /// Another refusal, in words.
    Refused(String),
}

/// Reads a CONNACK's body as an answer to a CONNECT of this version. Brokers of the other version answer in its form.
pub(super) fn connack(version: Version, body: &[u8]) -> Result<Connack, Fault> {
    let answer = connack::Connack::parse(body)?;
    Ok(match (answer.form, answer.code) {
        (form, 0) if form == version => Connack::Accepted(answer.terms.into()),
        // It took the CONNECT for one of 3.1.1, whose session this cannot be.
        (Version::V311, 0 | 1) | (_, 0x84) => Connack::WrongVersion,
        (Version::V311, 4 | 5) | (_, 0x86 | 0x87 | 0x8C) => Connack::Login(answer.sentence.map(words::shown)),
        (Version::V311, 2) => Connack::Refused("it does not want this client id".into()),
        (Version::V311, 3) => Connack::Refused("it is not available now".into()),
        // A session of 5, which nobody asked for.
        (Version::V5, 0) => return Err(Fault::Malformed),
        (_, code) => Connack::Refused(words::reason(code, answer.sentence)),
    })
}

/// A packet that came.
#[derive(Debug)]
pub(super) enum Packet {
    /// A message, and the identifier to acknowledge it with.
    Message(Message, Option<u16>),
    /// The answer to a PUBLISH: why it was refused, if it was.
    PublishAnswer(u16, Option<String>),
    /// The answer to a SUBSCRIBE: why it was refused, if it was.
    SubscribeAnswer(u16, Option<String>),
    /// The answer to a PINGREQ.
    Pong,
    /// The broker ends the connection, for this reason.
    Goodbye(String),
}

/// Reads a packet that comes after the CONNACK.
pub(super) fn read(version: Version, first: u8, body: &[u8]) -> Result<Packet, Fault> {
    Ok(match ServerPacket::parse(version, first, body)? {
        ServerPacket::Publish(found) => {
            let (topic, payload) = (found.topic.to_owned(), found.payload.to_vec());
            Packet::Message(Message { topic, payload, retained: found.retain }, found.id)
        }
        ServerPacket::Puback { id, told } => {
            Packet::PublishAnswer(id, told.refuses().then(|| words::reason(told.code, told.sentence)))
        }
        ServerPacket::Suback { id, told } => {
            let words = || match version {
                Version::V5 => words::reason(told.code, told.sentence),
                Version::V311 => "it gives no reason".to_owned(),
            };
            Packet::SubscribeAnswer(id, told.refuses().then(words))
        }
        ServerPacket::Pong => Packet::Pong,
        ServerPacket::Disconnect(told) => Packet::Goodbye(words::reason(told.code, told.sentence)),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Version::{V5, V311};
    use super::*;

    fn no_limits() -> Limits {
        Terms::default().into()
    }

    #[test]
    fn a_connack_is_read_by_its_length() {
        let accepted = || Connack::Accepted(no_limits());
        let refused = |why: &str| Connack::Refused(why.into());
        let login = |why: Option<&str>| Connack::Login(why.map(str::to_owned));
        for (body, under_5, under_311) in [
            (&[0, 0][..], Connack::WrongVersion, accepted()),
            (&[0, 1], Connack::WrongVersion, Connack::WrongVersion),
            (&[0, 2], refused("it does not want this client id"), refused("it does not want this client id")),
            (&[0, 3], refused("it is not available now"), refused("it is not available now")),
            (&[0, 4], login(None), login(None)),
            (&[0, 5], login(None), login(None)),
            (&[0, 0x84, 0], Connack::WrongVersion, Connack::WrongVersion),
            (&[0, 0x87, 0], login(None), login(None)),
            (&[0, 0x87], login(None), login(None)),
            (&[0, 0x87, 5, 0x1F, 0, 2, b'n', b'o'], login(Some("no")), login(Some("no"))),
            (&[0, 0x88, 0], refused("server unavailable"), refused("server unavailable")),
            (&[0, 0x8B, 0], refused("server shutting down"), refused("server shutting down")),
            (&[0, 0x42, 0], refused("reason 0x42"), refused("reason 0x42")),
        ] {
            assert_eq!(connack(V5, body), Ok(under_5), "{body:x?}");
            assert_eq!(connack(V311, body), Ok(under_311), "{body:x?}");
        }
        assert_eq!(connack(V5, &[0, 0, 0]), Ok(accepted()));
        for bad in [&[][..], &[0], &[0, 0, 9]] {
            assert!(connack(V5, bad).is_err(), "{bad:x?}");
        }
        assert!(connack(V311, &[0, 0, 0]).is_err());
    }

    #[test]
    fn limits_are_read() {
        let body = [0, 0, 15, 0x21, 0, 20, 0x27, 0, 0, 1, 0, 0x24, 0, 0x25, 0, 0x13, 0, 7];
        let wanted = Limits {
            under_way: 20,
            packet: 256,
            qos1: false,
            retain: false,
            keep_alive: Some(Duration::from_secs(7)),
        };
        assert_eq!(connack(V5, &body), Ok(Connack::Accepted(wanted)));
        let vast = [0, 0, 5, 0x27, 0xFF, 0xFF, 0xFF, 0xFF];
        let wanted = Limits { packet: LONGEST_PACKET, ..no_limits() };
        assert_eq!(connack(V5, &vast), Ok(Connack::Accepted(wanted)), "no packet is longer");
    }

    fn message(expiry: Option<Duration>) -> Outgoing {
        Outgoing { topic: "a".into(), payload: b"x".to_vec(), retain: true, expiry }
    }

    #[test]
    fn expiry_is_told_where_there_is_a_place_for_it() {
        let write = |version, expiry, id| publish(version, &message(expiry), id, LONGEST_PACKET).unwrap();
        let short = Some(Duration::from_millis(10));
        let five = write(V5, short, Some(258));
        assert_eq!(five, [0x33, 12, 0, 1, b'a', 1, 2, 5, 2, 0, 0, 0, 1, b'x'], "at least a second");
        assert_eq!(write(V311, short, Some(258)), [0x33, 6, 0, 1, b'a', 1, 2, b'x']);
        assert_eq!(write(V5, None, None), [0x31, 5, 0, 1, b'a', 0, b'x']);
    }

    #[test]
    fn messages_that_cannot_be_sent_say_why() {
        assert_eq!(publish(V311, &message(None), Some(1), 8).map(|bytes| bytes.len()), Ok(8));
        assert_eq!(publish(V311, &message(None), Some(1), 7), Err(Unsent::TooLong(7)));
        for topic in ["", "a/#", "+", "a\0", &"a".repeat(65_536)] {
            let message = Outgoing { topic: topic.into(), ..message(None) };
            assert_eq!(publish(V5, &message, None, LONGEST_PACKET), Err(Unsent::Topic));
        }
    }

    #[test]
    fn refusals_have_words() {
        for (version, first, body, words) in [
            (V5, 0x40, &[0, 1, 0x97][..], Some("quota exceeded")),
            (V5, 0x40, &[0, 1, 0x97, 5, 0x1F, 0, 2, b'n', b'o'], Some("quota exceeded: no")),
            (V5, 0x40, &[0, 1, 0x10], None),
            (V5, 0x40, &[0, 1], None),
            (V311, 0x40, &[0, 1], None),
            (V5, 0x90, &[0, 1, 0, 0x87], Some("not authorized")),
            (V5, 0x90, &[0, 1, 0, 1], None),
            (V311, 0x90, &[0, 1, 0x80], Some("it gives no reason")),
            (V311, 0x90, &[0, 1, 2], None),
        ] {
            let refusal = match read(version, first, body) {
                Ok(Packet::PublishAnswer(1, refusal) | Packet::SubscribeAnswer(1, refusal)) => refusal,
                other => panic!("{other:?}"),
            };
            assert_eq!(refusal.as_deref(), words, "{body:x?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(first: u8, body in prop::collection::vec(any::<u8>(), 0..200)) {
            for version in [V5, V311] {
                let _ = read(version, first, &body);
                let _ = connack(version, &body);
            }
        }
    }
}
