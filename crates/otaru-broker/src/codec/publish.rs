//! PUBLISH: a message on its way in, borrowed, and the head of one on its way out.

use super::encode::{put_string, put_varint, varint_length};
use super::fault::Fault;
use super::properties::{self as property, Property};
use super::reader::Reader;
use super::topic;
use crate::version::{Qos, Version};

/// Properties that go on to whoever receives the message, byte for byte and in their order.
pub(crate) type Forwarded = Vec<u8>;

/// A message that a client publishes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Publish<'a> {
    pub(crate) topic: &'a str,
    pub(crate) payload: &'a [u8],
    pub(crate) qos: Qos,
    pub(crate) retain: bool,
    /// Packet identifier; 0 for QoS 0, which has none.
    pub(crate) id: u16,
    /// Seconds that the message lives.
    pub(crate) expiry: Option<u32>,
    pub(crate) properties: Forwarded,
}

impl<'a> Publish<'a> {
    pub(crate) fn parse(version: Version, first: u8, body: &'a [u8]) -> Result<Self, Fault> {
        let qos = Qos::of((first >> 1) & 3).ok_or(Fault::Malformed)?;
        if qos == Qos::Zero && first & 8 != 0 {
            return Err(Fault::Malformed);
        }
        let mut reader = Reader(body);
        let topic = reader.string()?;
        let id = if qos == Qos::Zero { 0 } else { reader.packet_id()? };
        let (mut expiry, mut properties) = (None, Forwarded::default());
        if version == Version::V5 {
            property::each(&mut reader, ALLOWED, |found| match found.id {
                property::MESSAGE_EXPIRY => {
                    expiry = Some(found.value.number());
                    Ok(())
                }
                property::TOPIC_ALIAS => Err(Fault::TopicAlias),
                // Only a broker tells these.
                property::SUBSCRIPTION_ID => Err(Fault::Protocol),
                _ => forward(&found, &mut properties),
            })?;
        }
        if topic.is_empty() {
            return Err(Fault::Protocol);
        }
        if !topic::is_topic(topic) {
            return Err(Fault::TopicName);
        }
        Ok(Self { topic, payload: reader.0, qos, retain: first & 1 != 0, id, expiry, properties })
    }
}

const ALLOWED: &[u8] = &[
    property::PAYLOAD_FORMAT,
    property::MESSAGE_EXPIRY,
    property::TOPIC_ALIAS,
    property::RESPONSE_TOPIC,
    property::CORRELATION_DATA,
    property::USER_PROPERTY,
    property::SUBSCRIPTION_ID,
    property::CONTENT_TYPE,
];

/// Checks a property of a message and keeps it for whoever receives it.
pub(crate) fn forward(found: &Property<'_>, kept: &mut Forwarded) -> Result<(), Fault> {
    match (found.id, found.value) {
        (property::PAYLOAD_FORMAT, value) => drop(value.flag()?),
        (property::RESPONSE_TOPIC, property::Value::Text(text)) if !topic::is_topic(text) => {
            return Err(Fault::Protocol);
        }
        _ => {}
    }
    kept.extend_from_slice(found.raw);
    Ok(())
}

/// All of a PUBLISH but its payload.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Head<'a> {
    pub(crate) topic: &'a str,
    pub(crate) qos: Qos,
    pub(crate) retain: bool,
    pub(crate) repeated: bool,
    /// Packet identifier; 0 for QoS 0.
    pub(crate) id: u16,
    pub(crate) expiry: Option<u32>,
    pub(crate) properties: &'a [u8],
    /// Identifiers of the subscriptions that it is for.
    pub(crate) subscriptions: &'a [u32],
    pub(crate) payload: usize,
}

impl Head<'_> {
    fn properties_length(&self) -> usize {
        let ids: usize = self.subscriptions.iter().map(|id| 1 + varint_length(*id as usize)).sum();
        self.properties.len() + if self.expiry.is_some() { 5 } else { 0 } + ids
    }

    fn remaining(&self, version: Version) -> usize {
        let id = if self.qos == Qos::Zero { 0 } else { 2 };
        let properties = match version {
            Version::V311 => 0,
            Version::V5 => {
                let length = self.properties_length();
                varint_length(length) + length
            }
        };
        2 + self.topic.len() + id + properties + self.payload
    }

    /// Returns the length of the whole packet.
    pub(crate) fn packet_length(&self, version: Version) -> usize {
        let remaining = self.remaining(version);
        1 + varint_length(remaining) + remaining
    }

    /// Writes all but the payload.
    pub(crate) fn write(&self, version: Version, out: &mut Vec<u8>) {
        let flags = u8::from(self.repeated) << 3 | (self.qos as u8) << 1 | u8::from(self.retain);
        out.push(0x30 | flags);
        put_varint(out, self.remaining(version));
        put_string(out, self.topic);
        if self.qos != Qos::Zero {
            out.extend(self.id.to_be_bytes());
        }
        if version == Version::V5 {
            self.write_properties(out);
        }
    }

    fn write_properties(&self, out: &mut Vec<u8>) {
        put_varint(out, self.properties_length());
        out.extend_from_slice(self.properties);
        if let Some(seconds) = self.expiry {
            out.push(property::MESSAGE_EXPIRY);
            out.extend(seconds.to_be_bytes());
        }
        for id in self.subscriptions {
            out.push(property::SUBSCRIPTION_ID);
            put_varint(out, *id as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_goes_on_as_it_came() {
        let body = b"\0\x01t\0\x09\x0d\x01\x01\x02\0\0\0\x05\x08\0\x03r/sHello";
        let publish = Publish::parse(Version::V5, 0x33, body).unwrap();
        assert_eq!((publish.topic, publish.id, publish.retain), ("t", 9, true));
        assert_eq!((publish.expiry, publish.payload), (Some(5), &b"Hello"[..]));
        assert_eq!(publish.properties, b"\x01\x01\x08\0\x03r/s".to_vec()[..]);
    }

    #[test]
    fn lengths_are_as_written() {
        for version in [Version::V5, Version::V311] {
            for (properties, payload) in [(0, 0), (0, 125), (200, 20_000)] {
                let properties = vec![0; properties];
                let head = Head {
                    topic: "a/b",
                    qos: Qos::Two,
                    retain: true,
                    repeated: true,
                    id: 7,
                    expiry: Some(1),
                    properties: &properties,
                    subscriptions: &[1, 200],
                    payload,
                };
                let mut out = Vec::new();
                head.write(version, &mut out);
                assert_eq!(out.len() + payload, head.packet_length(version));
                assert_eq!(out[0], 0x3D);
            }
        }
    }

    #[test]
    fn faults_of_a_publish() {
        for (version, first, body, fault) in [
            (Version::V5, 0x36, &b"\0\x01t\0\x01\0"[..], Fault::Malformed),
            (Version::V5, 0x38, b"\0\x01t\0", Fault::Malformed),
            (Version::V5, 0x30, b"\0\x01t", Fault::Malformed),
            (Version::V5, 0x32, b"\0\x01t\0\0\0", Fault::Protocol),
            (Version::V5, 0x30, b"\0\x01#\0", Fault::TopicName),
            (Version::V311, 0x30, b"\0\x01+", Fault::TopicName),
            (Version::V311, 0x30, b"\0\0", Fault::Protocol),
            (Version::V5, 0x30, b"\0\0\0", Fault::Protocol),
            (Version::V5, 0x30, b"\0\0\x03\x23\0\x01", Fault::TopicAlias),
            (Version::V5, 0x30, b"\0\x01t\x02\x0b\x01", Fault::Protocol),
            (Version::V5, 0x30, b"\0\x01t\x02\x01\x02", Fault::Protocol),
            (Version::V5, 0x30, b"\0\x01t\x04\x08\0\x01#", Fault::Protocol),
        ] {
            assert_eq!(Publish::parse(version, first, body), Err(fault), "{body:?}");
        }
    }
}
