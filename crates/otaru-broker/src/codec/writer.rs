//! Packets that only a broker sends, but PUBLISH, as bytes at the end of a buffer.

use super::ack::AckKind;
use super::encode::{put_packet, put_string, put_varint};
use super::properties as property;
use crate::reason::Reason;
use crate::version::Version;

/// Manner in which a peer wants to be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Manner {
    pub(crate) version: Version,
    /// Largest packet that it takes.
    pub(crate) largest: usize,
    /// Whether it wants reasons in words, too.
    pub(crate) reasons: bool,
}

impl Manner {
    /// Writes a reason's sentence as properties, if that is wanted and fits, beside `rest` bytes of the packet.
    fn put_reason(self, body: &mut Vec<u8>, reason: Reason, text: Option<&str>) {
        let spoken = reason.to_string();
        let text = text.unwrap_or(&spoken);
        // Fixed header, length of properties, identifier and length of the text.
        let fits = body.len() + 5 + 4 + 3 + text.len() <= self.largest;
        match reason.is_error() && self.reasons && fits {
            true => {
                put_varint(body, 3 + text.len());
                body.push(property::REASON_STRING);
                put_string(body, text);
            }
            false => body.push(0),
        }
    }

    /// Writes PUBACK, PUBREC, PUBREL or PUBCOMP.
    pub(crate) fn ack(self, out: &mut Vec<u8>, kind: AckKind, id: u16, reason: Reason) {
        let mut body = id.to_be_bytes().to_vec();
        if self.version == Version::V5 && reason != Reason::Success {
            body.push(reason.code());
            self.put_reason(&mut body, reason, None);
        }
        put_packet(out, kind as u8, &body);
    }

    /// Writes SUBACK. A code of 0x80 or above is told by its number in 5 and as 0x80 in 3.1.1.
    pub(crate) fn suback(self, out: &mut Vec<u8>, id: u16, codes: &[u8]) {
        let mut body = id.to_be_bytes().to_vec();
        match self.version {
            Version::V311 => body.extend(codes.iter().map(|code| (*code).min(0x80))),
            Version::V5 => {
                body.push(0);
                body.extend_from_slice(codes);
            }
        }
        put_packet(out, 0x90, &body);
    }

    /// Writes UNSUBACK.
    pub(crate) fn unsuback(self, out: &mut Vec<u8>, id: u16, codes: &[u8]) {
        let mut body = id.to_be_bytes().to_vec();
        if self.version == Version::V5 {
            body.push(0);
            body.extend_from_slice(codes);
        }
        put_packet(out, 0xB0, &body);
    }

    /// Writes PINGRESP.
    pub(crate) fn pong(self, out: &mut Vec<u8>) {
        put_packet(out, 0xD0, &[]);
    }

    /// Writes DISCONNECT, which 3.1.1 has not from this side.
    pub(crate) fn disconnect(self, out: &mut Vec<u8>, reason: Reason) {
        if self.version == Version::V5 {
            let mut body = vec![reason.code()];
            // A reason is always allowed here.
            Self { reasons: true, ..self }.put_reason(&mut body, reason, None);
            put_packet(out, 0xE0, &body);
        }
    }

    /// Writes a CONNACK that refuses.
    pub(crate) fn refuse(self, out: &mut Vec<u8>, reason: Reason, text: Option<&str>) {
        let reason = reason.in_connack();
        match self.version {
            Version::V311 => put_packet(out, 0x20, &[0, reason.return_code()]),
            Version::V5 => {
                let mut body = vec![0, reason.code()];
                Self { reasons: true, ..self }.put_reason(&mut body, reason, text);
                put_packet(out, 0x20, &body);
            }
        }
    }

    /// Writes a CONNACK that welcomes.
    pub(crate) fn welcome(self, out: &mut Vec<u8>, welcome: &Welcome<'_>) {
        let mut body = vec![u8::from(welcome.session_present), 0];
        if self.version == Version::V5 {
            let properties = welcome.properties();
            put_varint(&mut body, properties.len());
            body.extend(properties);
        }
        put_packet(out, 0x20, &body);
    }
}

/// Terms of a connection that was let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Welcome<'a> {
    pub(crate) session_present: bool,
    pub(crate) assigned_client: Option<&'a str>,
    pub(crate) receive_maximum: u16,
    pub(crate) maximum_packet_size: u32,
    /// Seconds, if they are others than the client's.
    pub(crate) keep_alive: Option<u16>,
    /// Seconds, if they are others than the client's.
    pub(crate) session_expiry: Option<u32>,
}

impl Welcome<'_> {
    /// Bytes of the longest one, without a client id that is assigned: fixed header, flags and code, and the properties below.
    pub(crate) const LONGEST: usize = 2 + 2 + 1 + 5 + 3 + 5 + 3 + 2 + 3;

    /// Bytes of that for an assigned client id, whatever its length.
    pub(crate) const ASSIGNED: usize = 3;

    fn properties(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64);
        if let Some(seconds) = self.session_expiry {
            out.push(property::SESSION_EXPIRY);
            out.extend(seconds.to_be_bytes());
        }
        out.push(property::RECEIVE_MAXIMUM);
        out.extend(self.receive_maximum.to_be_bytes());
        out.push(property::MAXIMUM_PACKET_SIZE);
        out.extend(self.maximum_packet_size.to_be_bytes());
        if let Some(client) = self.assigned_client {
            out.push(property::ASSIGNED_CLIENT_ID);
            put_string(&mut out, client);
        }
        out.extend([property::TOPIC_ALIAS_MAXIMUM, 0, 0, property::SHARED_SUBSCRIPTIONS_AVAILABLE, 0]);
        if let Some(seconds) = self.keep_alive {
            out.push(property::SERVER_KEEP_ALIVE);
            out.extend(seconds.to_be_bytes());
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: Manner = Manner { version: Version::V5, largest: 1000, reasons: true };

    fn written(manner: Manner, write: impl FnOnce(Manner, &mut Vec<u8>)) -> Vec<u8> {
        let mut out = Vec::new();
        write(manner, &mut out);
        out
    }

    #[test]
    fn reasons_are_told_where_wanted_and_where_they_fit() {
        let refuse = |manner: Manner, out: &mut Vec<u8>| {
            manner.ack(out, AckKind::Puback, 5, Reason::NotAuthorized);
        };
        let told = written(PEER, refuse);
        assert_eq!(&told[..5], [0x40, told.len() as u8 - 2, 0, 5, 0x87]);
        assert!(told.ends_with(b"this login may not do that"));
        assert_eq!(written(Manner { reasons: false, ..PEER }, refuse), [0x40, 4, 0, 5, 0x87, 0]);
        assert_eq!(written(Manner { largest: 20, ..PEER }, refuse), [0x40, 4, 0, 5, 0x87, 0]);
        assert_eq!(written(Manner { version: Version::V311, ..PEER }, refuse), [0x40, 2, 0, 5]);
    }

    #[test]
    fn no_welcome_is_longer_than_the_longest() {
        let longest = Welcome {
            session_present: true,
            assigned_client: Some("auto-1"),
            receive_maximum: 1,
            maximum_packet_size: 1,
            keep_alive: Some(1),
            session_expiry: Some(1),
        };
        let length = written(PEER, |manner, out| manner.welcome(out, &longest)).len();
        assert_eq!(length, Welcome::LONGEST + Welcome::ASSIGNED + "auto-1".len());
    }

    #[test]
    fn each_version_has_its_own_refusal() {
        let refuse =
            |manner: Manner, out: &mut Vec<u8>| manner.refuse(out, Reason::NotAuthorized, Some("no"));
        assert_eq!(written(PEER, refuse), b"\x20\x08\0\x87\x05\x1f\0\x02no");
        assert_eq!(written(Manner { version: Version::V311, ..PEER }, refuse), [0x20, 2, 0, 5]);
    }

    #[test]
    fn subscriptions_are_answered_in_each_version() {
        let answer = |manner: Manner, out: &mut Vec<u8>| manner.suback(out, 7, &[1, 0x87]);
        assert_eq!(written(PEER, answer), [0x90, 5, 0, 7, 0, 1, 0x87]);
        assert_eq!(written(Manner { version: Version::V311, ..PEER }, answer), [0x90, 4, 0, 7, 1, 0x80]);
    }
}
