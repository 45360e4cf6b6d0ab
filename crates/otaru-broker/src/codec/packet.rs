//! Packets that a client sends after its CONNECT.

use super::ack::{Ack, AckKind};
use super::fault::Fault;
use super::frame::Frame;
use super::properties as property;
use super::publish::Publish;
use super::reader::Reader;
use super::subscribe::{Subscribe, Unsubscribe};
use crate::version::Version;

/// A packet from a client.
#[derive(Debug)]
pub(crate) enum Packet<'a> {
    Publish(Publish<'a>),
    /// An answer to a message, or a step of QoS 2.
    Ack(Ack),
    Subscribe(Subscribe<'a>),
    Unsubscribe(Unsubscribe<'a>),
    Ping,
    Disconnect(Disconnect),
}

/// An orderly goodbye.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Disconnect {
    /// Whether the will is to be published.
    pub(crate) with_will: bool,
    /// Another lifetime of the session, in seconds.
    pub(crate) session_expiry: Option<u32>,
}

impl<'a> Packet<'a> {
    pub(crate) fn parse(version: Version, frame: &Frame<'a>) -> Result<Self, Fault> {
        let (first, body) = (frame.first, frame.body);
        Ok(match first {
            0x30..=0x3F => Self::Publish(Publish::parse(version, first, body)?),
            0x40 => Self::Ack(Ack::parse(version, AckKind::Puback, body)?),
            0x50 => Self::Ack(Ack::parse(version, AckKind::Pubrec, body)?),
            0x62 => Self::Ack(Ack::parse(version, AckKind::Pubrel, body)?),
            0x70 => Self::Ack(Ack::parse(version, AckKind::Pubcomp, body)?),
            0x82 => Self::Subscribe(Subscribe::parse(version, body)?),
            0xA2 => Self::Unsubscribe(Unsubscribe::parse(version, body)?),
            0xC0 => {
                Reader(body).end()?;
                Self::Ping
            }
            0xE0 => Self::Disconnect(Disconnect::parse(version, body)?),
            // A second CONNECT, packets that only a broker sends, and AUTH where none was agreed on.
            0x10 | 0x20 | 0x90 | 0xB0 | 0xD0 => return Err(Fault::Protocol),
            0xF0 if version == Version::V5 => return Err(Fault::Protocol),
            _ => return Err(Fault::Malformed),
        })
    }
}

impl Disconnect {
    fn parse(version: Version, body: &[u8]) -> Result<Self, Fault> {
        let mut reader = Reader(body);
        let mut session_expiry = None;
        let mut code = 0;
        if version == Version::V5 && !reader.is_empty() {
            code = reader.u8()?;
            let allowed = [property::SESSION_EXPIRY, property::REASON_STRING, property::USER_PROPERTY];
            if !reader.is_empty() {
                property::each(&mut reader, &allowed, |found| {
                    if found.id == property::SESSION_EXPIRY {
                        session_expiry = Some(found.value.number());
                    }
                    Ok(())
                })?;
            }
        }
        reader.end()?;
        match code {
            0 | 4 | 0x80..=0x83 | 0x90 | 0x93..=0x99 => {}
            _ => return Err(Fault::Malformed),
        }
        Ok(Self { with_will: code != 0, session_expiry })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(version: Version, first: u8, body: &[u8]) -> Result<Packet<'_>, Fault> {
        Packet::parse(version, &Frame { first, body, length: 0 })
    }

    #[test]
    fn answers_may_leave_out_their_reason() {
        for body in [&b"\0\x05"[..], b"\0\x05\0", b"\0\x05\0\0", b"\0\x05\x10\x05\x1f\0\x02ok"] {
            let Ok(Packet::Ack(ack)) = parse(Version::V5, 0x40, body) else { panic!("{body:?}") };
            assert_eq!(ack, Ack { kind: AckKind::Puback, id: 5, refuses: false });
        }
        let Ok(Packet::Ack(ack)) = parse(Version::V5, 0x50, b"\0\x05\x97") else { panic!() };
        assert!(ack.refuses);
        assert!(parse(Version::V311, 0x40, b"\0\x05\0").is_err());
        assert!(parse(Version::V5, 0x40, b"\0\0").is_err());
        assert!(parse(Version::V5, 0x62, b"\0\x05\x10").is_err());
    }

    #[test]
    fn a_goodbye_says_whether_the_will_counts() {
        for (body, with_will, session_expiry) in
            [(&b""[..], false, None), (b"\x04", true, None), (b"\0\x05\x11\0\0\0\x09", false, Some(9))]
        {
            let Ok(Packet::Disconnect(found)) = parse(Version::V5, 0xE0, body) else { panic!("{body:?}") };
            assert_eq!(found, Disconnect { with_will, session_expiry });
        }
        assert!(parse(Version::V5, 0xE0, b"\x01").is_err());
    }

    #[test]
    fn flags_and_directions_are_checked() {
        for first in [0x60, 0x61, 0x63, 0x80, 0xA0, 0xC1, 0x00, 0x41] {
            assert_eq!(parse(Version::V5, first, b"\0\x01").err(), Some(Fault::Malformed), "{first:x}");
        }
        for first in [0x10, 0x20, 0x90, 0xB0, 0xD0, 0xF0] {
            assert_eq!(parse(Version::V5, first, b"\0\x01").err(), Some(Fault::Protocol), "{first:x}");
        }
    }
}
