//! Packets that a broker sends after its CONNACK, as a client reads them that subscribes and publishes with QoS 0 and 1 only.
//!
//! What other clients can put into a message is checked less than in a broker: a topic with many levels is the broker's to refuse, and
//! must not end the connection of all who listen.

use super::fault::Fault;
use super::properties as property;
use super::reader::Reader;
use super::told::{self, Told};
use crate::version::{Qos, Version};

/// A packet from a broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ServerPacket<'a> {
    /// A message.
    Publish(Delivery<'a>),
    /// An answer to a PUBLISH.
    Puback { id: u16, told: Told<'a> },
    /// An answer to a SUBSCRIBE: the code of its first filter, of which there is one here.
    Suback { id: u16, told: Told<'a> },
    /// An answer to a PINGREQ.
    Pong,
    /// The end of the connection, which 3.1.1 does not announce.
    Disconnect(Told<'a>),
}

/// A message for a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Delivery<'a> {
    pub(crate) topic: &'a str,
    pub(crate) payload: &'a [u8],
    pub(crate) retain: bool,
    /// Packet identifier, which QoS 1 has.
    pub(crate) id: Option<u16>,
}

/// Properties of the answers.
const REASONS: &[u8] = &[property::REASON_STRING, property::USER_PROPERTY];
const GOODBYE: &[u8] = &[property::REASON_STRING, property::USER_PROPERTY, property::SERVER_REFERENCE];
const MESSAGE: &[u8] = &[
    property::PAYLOAD_FORMAT,
    property::MESSAGE_EXPIRY,
    property::TOPIC_ALIAS,
    property::RESPONSE_TOPIC,
    property::CORRELATION_DATA,
    property::USER_PROPERTY,
    property::SUBSCRIPTION_ID,
    property::CONTENT_TYPE,
];

impl<'a> ServerPacket<'a> {
    /// Reads a packet's body.
    pub(crate) fn parse(version: Version, first: u8, body: &'a [u8]) -> Result<Self, Fault> {
        let mut reader = Reader(body);
        let packet = match (first, version) {
            (0x30..=0x3F, _) => return Delivery::parse(version, first, reader).map(Self::Publish),
            (0x40, _) => Self::Puback { id: reader.packet_id()?, told: reasons(version, &mut reader)? },
            (0x90, _) => return suback(version, reader),
            (0xD0, _) => Self::Pong,
            (0xE0, Version::V5) => Self::Disconnect(Told::read(&mut reader, GOODBYE)?),
            // Packets of QoS 2, of what nobody asked for, and those that only a client sends.
            (0x10 | 0x20 | 0x50 | 0x62 | 0x70 | 0x82 | 0xA2 | 0xB0 | 0xC0 | 0xE0 | 0xF0, _) => {
                return Err(Fault::Protocol);
            }
            _ => return Err(Fault::Malformed),
        };
        reader.end()?;
        Ok(packet)
    }
}

/// Reads the reason of an answer, which 3.1.1 does not have.
fn reasons<'a>(version: Version, reader: &mut Reader<'a>) -> Result<Told<'a>, Fault> {
    match version {
        Version::V5 => Told::read(reader, REASONS),
        Version::V311 => Ok(Told::default()),
    }
}

fn suback(version: Version, mut reader: Reader<'_>) -> Result<ServerPacket<'_>, Fault> {
    let id = reader.packet_id()?;
    let sentence = match version {
        Version::V5 => told::sentence(&mut reader, REASONS)?,
        Version::V311 => None,
    };
    let code = reader.u8()?;
    reader.end()?;
    match code {
        3..0x80 => Err(Fault::Malformed),
        _ => Ok(ServerPacket::Suback { id, told: Told { code, sentence } }),
    }
}

impl<'a> Delivery<'a> {
    fn parse(version: Version, first: u8, mut reader: Reader<'a>) -> Result<Self, Fault> {
        let qos = Qos::of((first >> 1) & 3).ok_or(Fault::Malformed)?;
        let topic = reader.string()?;
        let id = match qos {
            Qos::Zero => None,
            Qos::One => Some(reader.packet_id()?),
            // Nobody subscribes at it.
            Qos::Two => return Err(Fault::Protocol),
        };
        if version == Version::V5 {
            property::each(&mut reader, MESSAGE, |found| match found.id {
                property::TOPIC_ALIAS => Err(Fault::TopicAlias),
                _ => Ok(()),
            })?;
        }
        match topic {
            // It stands for an alias.
            "" => Err(Fault::Protocol),
            _ if topic.contains(['+', '#']) => Err(Fault::TopicName),
            _ => Ok(Self { topic, payload: reader.0, retain: first & 1 != 0, id }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::ack::AckKind;
    use crate::codec::frame::{Cut, cut};
    use crate::codec::publish::Head;
    use crate::codec::writer::Manner;
    use crate::reason::Reason;

    const BOTH: [Version; 2] = [Version::V5, Version::V311];

    fn told(code: u8, sentence: Option<&str>) -> Told<'_> {
        Told { code, sentence }
    }

    #[test]
    fn a_client_reads_what_a_broker_writes() {
        for version in BOTH {
            let manner = Manner { version, largest: 1000, reasons: true };
            let is_5 = version == Version::V5;
            let words = Reason::NotAuthorized.to_string();
            let refusal = if is_5 { told(0x87, Some(&words)) } else { Told::default() };
            let mut out = Vec::new();
            manner.ack(&mut out, AckKind::Puback, 7, Reason::Success);
            manner.ack(&mut out, AckKind::Puback, 8, Reason::NotAuthorized);
            manner.suback(&mut out, 9, &[1]);
            manner.suback(&mut out, 10, &[0x87]);
            manner.pong(&mut out);
            let mut wanted = vec![
                ServerPacket::Puback { id: 7, told: Told::default() },
                ServerPacket::Puback { id: 8, told: refusal },
                ServerPacket::Suback { id: 9, told: told(1, None) },
                ServerPacket::Suback { id: 10, told: told(if is_5 { 0x87 } else { 0x80 }, None) },
                ServerPacket::Pong,
            ];
            manner.disconnect(&mut out, Reason::NotAuthorized);
            if is_5 {
                wanted.push(ServerPacket::Disconnect(refusal));
            }
            let mut rest = out.as_slice();
            for wanted in wanted {
                let Ok(Cut::Whole(frame)) = cut(rest, 1000) else { panic!("{rest:x?}") };
                assert_eq!(ServerPacket::parse(version, frame.first, frame.body), Ok(wanted));
                rest = &rest[frame.length..];
            }
            assert!(rest.is_empty());
        }
    }

    #[test]
    fn messages_are_read_with_everything_that_others_may_have_put_in() {
        let topic = "/".repeat(500);
        let response = [&[property::RESPONSE_TOPIC, 1, 0x2C][..], &[b'/'; 300]].concat();
        for version in BOTH {
            for qos in [Qos::Zero, Qos::One] {
                let head = Head {
                    topic: &topic,
                    qos,
                    retain: true,
                    repeated: qos == Qos::One,
                    id: 258,
                    expiry: Some(1),
                    properties: &response,
                    subscriptions: &[7],
                    payload: 2,
                };
                let mut out = Vec::new();
                head.write(version, &mut out);
                out.extend_from_slice(b"hi");
                let Ok(Cut::Whole(frame)) = cut(&out, 10_000) else { panic!("{out:x?}") };
                let id = (qos == Qos::One).then_some(258);
                let wanted = Delivery { topic: &topic, payload: b"hi", retain: true, id };
                assert_eq!(
                    ServerPacket::parse(version, frame.first, frame.body),
                    Ok(ServerPacket::Publish(wanted))
                );
            }
        }
    }

    #[test]
    fn what_a_broker_may_not_send_is_a_fault() {
        for (first, body) in [
            (0x34, &[0, 1, b'a', 0, 1, 0][..]), // QoS 2
            (0x36, &[0, 1, b'a', 0, 1, 0]),
            (0x30, &[0, 0, 0]), // no topic
            (0x30, &[0, 1, b'#', 0]),
            (0x30, &[0, 1, 0, 0]),
            (0x32, &[0, 1, b'a', 0, 0, 0]), // identifier 0
            (0x00, &[]),
            (0x10, &[]),
            (0x20, &[0, 0, 0]),
            (0x40, &[0]),
            (0x40, &[0, 0]),
            (0x41, &[0, 1]),
            (0x50, &[0, 1]),
            (0x90, &[0, 1]),
            (0x90, &[0, 1, 0]), // the length of the properties in 5, a code in 3.1.1
            (0x90, &[0, 1, 3, 3]),
            (0xD0, &[0]),
            (0xF0, &[]),
        ] {
            for version in BOTH {
                let is_code = version == Version::V311 && body == [0, 1, 0];
                let read = ServerPacket::parse(version, first, body);
                assert_eq!(read.is_err(), !is_code, "{first:x} {body:x?} {version} {read:?}");
            }
        }
        assert_eq!(ServerPacket::parse(Version::V311, 0xE0, &[]), Err(Fault::Protocol));
        assert_eq!(ServerPacket::parse(Version::V311, 0x40, &[0, 1, 0]), Err(Fault::Malformed));
        let alias = [0, 1, b'a', 3, property::TOPIC_ALIAS, 0, 1];
        assert_eq!(ServerPacket::parse(Version::V5, 0x30, &alias), Err(Fault::TopicAlias));
    }
}
