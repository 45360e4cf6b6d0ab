//! CONNECT, the first packet of a connection, in both versions.

use super::fault::Fault;
use super::frame::Frame;
use super::properties::{self as property, Value};
use super::publish::{self, Forwarded};
use super::reader::Reader;
use super::topic;
use crate::version::{Qos, Version};

/// First byte of a CONNECT.
const CONNECT: u8 = 0x10;

/// A client's wish to connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Connect<'a> {
    pub(crate) version: Version,
    pub(crate) client: &'a str,
    pub(crate) username: Option<&'a str>,
    pub(crate) password: Option<&'a [u8]>,
    /// Without a session from before.
    pub(crate) clean: bool,
    /// Seconds; 0 for none.
    pub(crate) keep_alive: u16,
    pub(crate) will: Option<Will<'a>>,
    /// Seconds that the session outlives its connection; `u32::MAX` for ever.
    pub(crate) session_expiry: u32,
    pub(crate) receive_maximum: u16,
    pub(crate) maximum_packet_size: Option<u32>,
    /// Whether reasons may be told in packets other than CONNACK and DISCONNECT.
    pub(crate) problem_information: bool,
    /// Whether it wants enhanced authentication.
    pub(crate) enhanced_authentication: bool,
}

/// A message to be published when the connection is lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Will<'a> {
    pub(crate) topic: &'a str,
    pub(crate) payload: &'a [u8],
    pub(crate) qos: Qos,
    pub(crate) retain: bool,
    /// Seconds between the loss and the message.
    pub(crate) delay: u32,
    /// Seconds that the message lives.
    pub(crate) expiry: Option<u32>,
    pub(crate) properties: Forwarded,
}

/// Bits of the connect flags.
struct Flags(u8);

impl Flags {
    fn has(&self, bit: u8) -> bool {
        self.0 & (1 << bit) != 0
    }

    fn check(&self, version: Version) -> Result<(), Fault> {
        let will_bits = self.0 & 0b0011_1000;
        let lone_password = version == Version::V311 && self.has(6) && !self.has(7);
        match self.has(0) || (!self.has(2) && will_bits != 0) || lone_password {
            true => Err(Fault::Malformed),
            false => Ok(()),
        }
    }

    fn will_qos(&self) -> Result<Qos, Fault> {
        Qos::of((self.0 >> 3) & 3).ok_or(Fault::Malformed)
    }
}

impl<'a> Connect<'a> {
    /// Reads the first packet of a connection.
    pub(crate) fn parse(frame: &Frame<'a>) -> Result<Self, Fault> {
        if frame.first != CONNECT {
            return Err(if frame.first >> 4 == 1 { Fault::Malformed } else { Fault::Protocol });
        }
        let mut reader = Reader(frame.body);
        let version = protocol(&mut reader)?;
        let flags = Flags(reader.u8()?);
        flags.check(version)?;
        let mut connect = Self::new(version, flags.has(1), reader.u16()?);
        if version == Version::V5 {
            connect.read_properties(&mut reader)?;
        }
        connect.client = reader.string()?;
        if flags.has(2) {
            connect.will = Some(will(&mut reader, version, &flags)?);
        }
        connect.username = flags.has(7).then(|| reader.string()).transpose()?;
        connect.password = flags.has(6).then(|| reader.binary()).transpose()?;
        reader.end()?;
        Ok(connect)
    }

    fn new(version: Version, clean: bool, keep_alive: u16) -> Self {
        let outlives = version == Version::V311 && !clean;
        Self {
            version,
            client: "",
            username: None,
            password: None,
            clean,
            keep_alive,
            will: None,
            session_expiry: if outlives { u32::MAX } else { 0 },
            receive_maximum: u16::MAX,
            maximum_packet_size: None,
            problem_information: true,
            enhanced_authentication: false,
        }
    }

    fn read_properties(&mut self, reader: &mut Reader<'a>) -> Result<(), Fault> {
        const ALLOWED: &[u8] = &[
            property::SESSION_EXPIRY,
            property::RECEIVE_MAXIMUM,
            property::MAXIMUM_PACKET_SIZE,
            property::TOPIC_ALIAS_MAXIMUM,
            property::REQUEST_RESPONSE_INFORMATION,
            property::REQUEST_PROBLEM_INFORMATION,
            property::USER_PROPERTY,
            property::AUTHENTICATION_METHOD,
            property::AUTHENTICATION_DATA,
        ];
        let mut has_data = false;
        property::each(reader, ALLOWED, |found| {
            match found.id {
                property::SESSION_EXPIRY => self.session_expiry = found.value.number(),
                property::RECEIVE_MAXIMUM => {
                    self.receive_maximum = u16::try_from(found.value.positive()?).unwrap_or(u16::MAX);
                }
                property::MAXIMUM_PACKET_SIZE => self.maximum_packet_size = Some(found.value.positive()?),
                property::REQUEST_RESPONSE_INFORMATION => drop(found.value.flag()?),
                property::REQUEST_PROBLEM_INFORMATION => self.problem_information = found.value.flag()?,
                property::AUTHENTICATION_METHOD => self.enhanced_authentication = true,
                property::AUTHENTICATION_DATA => has_data = true,
                _ => {}
            }
            Ok(())
        })?;
        if has_data && !self.enhanced_authentication { Err(Fault::Protocol) } else { Ok(()) }
    }
}

/// Reads the protocol's name and version.
fn protocol(reader: &mut Reader<'_>) -> Result<Version, Fault> {
    let name = reader.string()?;
    let level = reader.u8()?;
    match (name, level) {
        ("MQTT", 4) => Ok(Version::V311),
        ("MQTT", 5) => Ok(Version::V5),
        ("MQTT" | "MQIsdp", other) => Err(Fault::Version(other)),
        _ => Err(Fault::Protocol),
    }
}

fn will<'a>(reader: &mut Reader<'a>, version: Version, flags: &Flags) -> Result<Will<'a>, Fault> {
    const ALLOWED: &[u8] = &[
        property::WILL_DELAY,
        property::PAYLOAD_FORMAT,
        property::MESSAGE_EXPIRY,
        property::CONTENT_TYPE,
        property::RESPONSE_TOPIC,
        property::CORRELATION_DATA,
        property::USER_PROPERTY,
    ];
    let (mut delay, mut expiry, mut properties) = (0, None, Forwarded::default());
    if version == Version::V5 {
        property::each(reader, ALLOWED, |found| {
            match (found.id, found.value) {
                (property::WILL_DELAY, Value::Number(seconds)) => delay = seconds,
                (property::MESSAGE_EXPIRY, Value::Number(seconds)) => expiry = Some(seconds),
                _ => publish::forward(&found, &mut properties)?,
            }
            Ok(())
        })?;
    }
    let topic = reader.string()?;
    if !topic::is_topic(topic) {
        return Err(Fault::TopicName);
    }
    let (qos, retain) = (flags.will_qos()?, flags.has(5));
    Ok(Will { topic, payload: reader.binary()?, qos, retain, delay, expiry, properties })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: &[u8]) -> Result<Connect<'_>, Fault> {
        Connect::parse(&Frame { first: CONNECT, body, length: 0 })
    }

    fn v5(flags: u8, rest: &[u8]) -> Vec<u8> {
        [b"\0\x04MQTT\x05", &[flags, 0, 60][..], rest].concat()
    }

    #[test]
    fn a_whole_connect_of_5() {
        let body = v5(
            0b1110_1110,
            b"\x08\x11\0\0\0\x07\x21\0\x02\0\x01c\x09\x18\0\0\0\x03\x03\0\x01t\0\x01w\0\x02hi\0\x01u\0\x01p",
        );
        let connect = parse(&body).unwrap();
        let will = connect.will.as_ref().unwrap();
        assert_eq!((connect.client, connect.clean, connect.keep_alive), ("c", true, 60));
        assert_eq!((connect.session_expiry, connect.receive_maximum), (7, 2));
        assert_eq!((connect.username, connect.password), (Some("u"), Some(&b"p"[..])));
        assert_eq!((will.topic, will.payload, will.qos, will.retain), ("w", &b"hi"[..], Qos::One, true));
        assert_eq!((will.delay, will.properties.as_slice()), (3, &b"\x03\0\x01t"[..]));
    }

    #[test]
    fn sessions_of_3_1_1_outlive_their_connection_unless_clean() {
        let connect = parse(b"\0\x04MQTT\x04\x00\0\x05\0\x01c").unwrap();
        assert_eq!(
            (connect.version, connect.session_expiry, connect.keep_alive),
            (Version::V311, u32::MAX, 5)
        );
        assert_eq!(parse(b"\0\x04MQTT\x04\x02\0\x05\0\x01c").unwrap().session_expiry, 0);
    }

    #[test]
    fn a_password_needs_a_user_name_in_3_1_1_only() {
        assert_eq!(parse(&v5(0x42, b"\0\0\x01c\0\x01p")).unwrap().password, Some(&b"p"[..]));
        assert_eq!(parse(b"\0\x04MQTT\x04\x42\0\x05\0\x01c\0\x01p"), Err(Fault::Malformed));
    }

    #[test]
    fn faults_of_a_connect() {
        for (body, fault) in [
            (v5(0x03, b"\0\0\x01c"), Fault::Malformed),
            (v5(0x22, b"\0\0\x01c"), Fault::Malformed),
            (v5(0x1E, b"\0\0\x01c\0\0\x01w\0\0"), Fault::Malformed),
            (v5(0x06, b"\0\0\x01c\0\0\x01#\0\0"), Fault::TopicName),
            (v5(0x02, b"\0\0\x01\0"), Fault::Malformed),
            (v5(0x02, b"\0\0\x01c?"), Fault::Malformed),
            (v5(0x02, b"\x03\x21\0\0\0\x01c"), Fault::Protocol),
            (v5(0x02, b"\x04\x16\0\x01x\0\x01c"), Fault::Protocol),
            (b"\0\x04MQTT\x06\x02\0\x05\0\x01c".to_vec(), Fault::Version(6)),
            (b"\0\x06MQIsdp\x03\x02\0\x05\0\x01c".to_vec(), Fault::Version(3)),
            (b"\0\x04HTTP\x05\x02\0\x05\0\0\x01c".to_vec(), Fault::Protocol),
        ] {
            assert_eq!(parse(&body), Err(fault), "{body:?}");
        }
        assert_eq!(Connect::parse(&Frame { first: 0xC0, body: b"", length: 2 }), Err(Fault::Protocol));
    }
}
