//! CONNACK as a client reads it, in the form of either version.

use super::fault::Fault;
use super::properties::{self as property, Property, Value};
use super::reader::Reader;
use crate::version::Version;

/// First byte of a CONNACK.
pub(crate) const CONNACK: u8 = 0x20;

/// Answer of a broker to a CONNECT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Connack<'a> {
    /// Version whose form it has: two bytes are 3.1.1's, more are 5's. A broker of the other version answers in its own.
    pub(crate) form: Version,
    /// Return code or reason code; 0 lets in.
    pub(crate) code: u8,
    /// Reason string.
    pub(crate) sentence: Option<&'a str>,
    pub(crate) terms: Terms,
}

/// Terms of a connection that a broker of MQTT 5 tells; one of 3.1.1 tells none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Terms {
    pub(crate) receive_maximum: u16,
    pub(crate) maximum_packet_size: Option<u32>,
    /// Whether QoS 1 is taken.
    pub(crate) qos1: bool,
    /// Whether retained messages are taken.
    pub(crate) retain: bool,
    /// Seconds, where they are others than the client's.
    pub(crate) keep_alive: Option<u16>,
}

impl Default for Terms {
    /// Returns those of a broker that tells none (MQTT 5, section 3.2.2.3).
    fn default() -> Self {
        Self {
            receive_maximum: u16::MAX,
            maximum_packet_size: None,
            qos1: true,
            retain: true,
            keep_alive: None,
        }
    }
}

const ALLOWED: &[u8] = &[
    property::SESSION_EXPIRY,
    property::RECEIVE_MAXIMUM,
    property::MAXIMUM_QOS,
    property::RETAIN_AVAILABLE,
    property::MAXIMUM_PACKET_SIZE,
    property::ASSIGNED_CLIENT_ID,
    property::TOPIC_ALIAS_MAXIMUM,
    property::REASON_STRING,
    property::USER_PROPERTY,
    property::WILDCARDS_AVAILABLE,
    property::SUBSCRIPTION_IDS_AVAILABLE,
    property::SHARED_SUBSCRIPTIONS_AVAILABLE,
    property::SERVER_KEEP_ALIVE,
    property::RESPONSE_INFORMATION,
    property::SERVER_REFERENCE,
    property::AUTHENTICATION_METHOD,
    property::AUTHENTICATION_DATA,
];

impl<'a> Connack<'a> {
    /// Reads a CONNACK's body. The code of a refusal counts even if what stands behind it cannot be read.
    pub(crate) fn parse(body: &'a [u8]) -> Result<Self, Fault> {
        let mut reader = Reader(body);
        let _flags = reader.u8()?;
        let code = reader.u8()?;
        let form = if reader.is_empty() { Version::V311 } else { Version::V5 };
        let mut connack = Self { form, code, sentence: None, terms: Terms::default() };
        match connack.read_properties(reader) {
            Err(fault) if code == 0 && form == Version::V5 => Err(fault),
            _ => Ok(connack),
        }
    }

    fn read_properties(&mut self, mut reader: Reader<'a>) -> Result<(), Fault> {
        property::each(&mut reader, ALLOWED, |found| {
            if let (property::REASON_STRING, Value::Text(text)) = (found.id, found.value) {
                self.sentence = Some(text);
            }
            self.terms.take(&found)
        })?;
        reader.end()
    }
}

impl Terms {
    fn take(&mut self, found: &Property<'_>) -> Result<(), Fault> {
        let number = found.value.number();
        match found.id {
            property::RECEIVE_MAXIMUM => {
                self.receive_maximum = u16::try_from(found.value.positive()?).unwrap_or(u16::MAX);
            }
            property::MAXIMUM_PACKET_SIZE => self.maximum_packet_size = Some(found.value.positive()?),
            property::MAXIMUM_QOS => self.qos1 = number > 0,
            property::RETAIN_AVAILABLE => self.retain = number > 0,
            property::SERVER_KEEP_ALIVE => self.keep_alive = u16::try_from(number).ok(),
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::frame::{Cut, cut};
    use crate::codec::writer::{Manner, Welcome};
    use crate::reason::Reason;

    /// Reads what a broker of this crate writes.
    fn reread(write: impl FnOnce(&mut Vec<u8>), look: impl FnOnce(Connack<'_>)) {
        let mut out = Vec::new();
        write(&mut out);
        let Ok(Cut::Whole(frame)) = cut(&out, 1000) else { panic!("{out:x?}") };
        assert_eq!((frame.first, frame.length), (CONNACK, out.len()));
        look(Connack::parse(frame.body).unwrap());
    }

    #[test]
    fn a_broker_is_understood_in_both_versions() {
        let welcome = Welcome {
            session_present: false,
            assigned_client: Some("c"),
            receive_maximum: 20,
            maximum_packet_size: 256,
            keep_alive: Some(7),
            session_expiry: Some(9),
        };
        for version in [Version::V5, Version::V311] {
            let manner = Manner { version, largest: 1000, reasons: true };
            reread(
                |out| manner.welcome(out, &welcome),
                |connack| {
                    let told = Terms {
                        receive_maximum: 20,
                        maximum_packet_size: Some(256),
                        keep_alive: Some(7),
                        ..Terms::default()
                    };
                    let terms = if version == Version::V5 { told } else { Terms::default() };
                    assert_eq!(connack, Connack { form: version, code: 0, sentence: None, terms });
                },
            );
            reread(
                |out| manner.refuse(out, Reason::NotAuthorized, Some("no")),
                |connack| match version {
                    Version::V5 => assert_eq!((connack.code, connack.sentence), (0x87, Some("no"))),
                    Version::V311 => assert_eq!((connack.code, connack.sentence), (5, None)),
                },
            );
        }
    }

    #[test]
    fn a_refusal_counts_whatever_stands_behind_it() {
        for body in [&[0, 0x87][..], &[0, 0x87, 9], &[0, 0x87, 0, 0], &[0, 0x87, 1, 1]] {
            assert_eq!(Connack::parse(body).unwrap().code, 0x87, "{body:x?}");
        }
    }

    #[test]
    fn faults_of_a_connack() {
        for (body, fault) in [
            (&[][..], Fault::Malformed),
            (&[0], Fault::Malformed),
            (&[0, 0, 9], Fault::Malformed),
            (&[0, 0, 0, 0], Fault::Malformed),
            // Neither may be 0 (sections 3.2.2.3.3 and 3.2.2.3.6).
            (&[0, 0, 3, 0x21, 0, 0], Fault::Protocol),
            (&[0, 0, 5, 0x27, 0, 0, 0, 0], Fault::Protocol),
            // A subscription identifier has no place here.
            (&[0, 0, 2, 11, 1], Fault::Malformed),
        ] {
            assert_eq!(Connack::parse(body), Err(fault), "{body:x?}");
        }
    }
}
