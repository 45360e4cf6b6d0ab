//! MQTT packets, as many of them as a device needs that takes commands and gives reports (OASIS standard of MQTT 5, 7 March 2019;
//! numbers in brackets are its sections). Those of MQTT 3.1.1 (29 October 2014) are the same without properties and reasons.
//!
//! Our own, because clients for everything that MQTT 5 can do take ten times the flash. Writing fails only where
//! memory is too small, reading takes any bytes.

use core::num::NonZeroU16;

use otaru_format::command::MAX_COMMAND;

use super::version::Level;

/// Bytes of an incoming packet that are looked at. A broker of version 5 is told, and sends no longer ones; of a longer one the rest
/// is passed over. There is room for the longest command, and for the longest report where it comes back.
pub(super) const PACKET: usize = MAX_COMMAND + 448;
/// Bytes of the longest fixed header [2.1]: kind, and a length in up to four bytes.
const FIXED: usize = 5;

/// Reason of a broker that does not speak this version [2.4].
pub(super) const UNSUPPORTED: u8 = 0x84;

/// A ping [3.12].
pub(super) const PINGREQ: [u8; 2] = [0xC0, 0];

/// The kind of a packet, in the upper half of its first byte; the lower half has flags [2.1.2].
mod kind {
    pub(super) const CONNECT: u8 = 0x10;
    pub(super) const CONNACK: u8 = 0x20;
    pub(super) const PUBLISH: u8 = 0x30;
    pub(super) const PUBACK: u8 = 0x40;
    pub(super) const SUBSCRIBE: u8 = 0x82;
    pub(super) const SUBACK: u8 = 0x90;
    pub(super) const UNSUBSCRIBE: u8 = 0xA2;
    pub(super) const UNSUBACK: u8 = 0xB0;
    pub(super) const PINGRESP: u8 = 0xD0;
    pub(super) const DISCONNECT: u8 = 0xE0;
}

/// Delivery guarantee (QoS) [4.3].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum QoS {
    /// Not at all, beyond TCP.
    AtMostOnce,
    /// Until it is acknowledged.
    AtLeastOnce,
}

/// A session's parameters [3.1].
pub(super) struct Connect<'a> {
    pub(super) client: &'a str,
    /// User name and password.
    pub(super) login: Option<(&'a str, &'a str)>,
    /// Topic and payload of the last will, which is retained and sent with QoS 1.
    pub(super) will: (&'a str, &'a str),
    /// Seconds; 0 for no limit.
    pub(super) keep_alive: u16,
    /// Seconds the broker keeps the session for a device that is away. With 3.1.1 there is no such limit, and no session that is
    /// kept either.
    pub(super) session_expiry: u32,
}

impl Connect<'_> {
    /// The packet, in `buf`; `None` where it does not fit.
    pub(super) fn write<'b>(&self, level: Level, buf: &'b mut [u8]) -> Option<&'b [u8]> {
        /// Will, its QoS 1, and its retaining [3.1.2]; with version 5 the session that the broker has is gone on with.
        const WILL: u8 = 0x04 | 0x08 | 0x20;
        const CLEAN: u8 = 0x02;
        let login = if self.login.is_some() { 0x80 | 0x40 } else { 0 };
        let (number, clean) = if level == Level::V5 { (5, 0) } else { (4, CLEAN) };
        let mut out = Writer::new(buf)?;
        out.text("MQTT")?;
        out.bytes(&[number, WILL | clean | login])?;
        out.bytes(&self.keep_alive.to_be_bytes())?;
        if level == Level::V5 {
            out.bytes(&[10, 0x11])?; // Properties: session expiry [3.1.2.11.2],
            out.bytes(&self.session_expiry.to_be_bytes())?;
            out.bytes(&[0x27])?; // and the maximum packet size [3.1.2.11.4].
            out.bytes(&(PACKET as u32).to_be_bytes())?;
        }
        out.text(self.client)?;
        out.no_properties(level)?; // Of the will.
        out.text(self.will.0)?;
        out.text(self.will.1)?;
        if let Some((user, password)) = self.login {
            out.text(user)?;
            out.text(password)?;
        }
        out.finish(kind::CONNECT, 0)
    }
}

/// A subscription to one topic with QoS 1 [3.8], or its end [3.10], in `buf`; `None` where it does not fit.
pub(super) fn subscribe<'b>(
    level: Level,
    topic: &str,
    id: NonZeroU16,
    wanted: bool,
    buf: &'b mut [u8],
) -> Option<&'b [u8]> {
    let mut out = Writer::new(buf)?;
    out.bytes(&id.get().to_be_bytes())?;
    out.no_properties(level)?;
    out.text(topic)?;
    if !wanted {
        return out.finish(kind::UNSUBSCRIBE, 0);
    }
    out.bytes(&[1])?;
    out.finish(kind::SUBSCRIBE, 0)
}

/// A message [3.3] up to its payload of `len` bytes, in `buf`; `None` where it does not fit. One with an `id` is to be
/// acknowledged: it has QoS 1.
pub(super) fn publish<'b>(
    level: Level,
    topic: &str,
    id: Option<NonZeroU16>,
    retain: bool,
    len: usize,
    buf: &'b mut [u8],
) -> Option<&'b [u8]> {
    let mut out = Writer::new(buf)?;
    out.text(topic)?;
    let mut flags = u8::from(retain);
    if let Some(id) = id {
        flags |= 0x02;
        out.bytes(&id.get().to_be_bytes())?;
    }
    out.no_properties(level)?;
    out.finish(kind::PUBLISH | flags, len)
}

/// The acknowledgement of a message with QoS 1 [3.4].
pub(super) const fn acknowledge(id: NonZeroU16) -> [u8; 4] {
    let [high, low] = id.get().to_be_bytes();
    [kind::PUBACK, 2, high, low]
}

/// First bytes of a packet: its kind, where its body begins and where it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    first: u8,
    start: usize,
    end: usize,
    rest: usize,
}

impl Header {
    /// Reads it; `None` while bytes are missing.
    ///
    /// # Errors
    /// The bytes begin no packet: its length has no end.
    pub(super) fn read(bytes: &[u8]) -> Result<Option<Self>, Broken> {
        let Some((first, rest)) = bytes.split_first() else { return Ok(None) };
        let mut reader = Reader(rest);
        match reader.length() {
            Some(len) => {
                let start = bytes.len() - reader.0.len();
                let whole = start.saturating_add(len);
                let end = whole.min(PACKET);
                Ok(Some(Self { first: *first, start, end, rest: whole - end }))
            }
            None if bytes.len() < FIXED => Ok(None),
            None => Err(Broken),
        }
    }

    /// Whether this begins an alert of TLS (RFC 8446 section 6), from a broker that was waiting for a handshake.
    pub(super) const fn is_tls_alert(&self) -> bool {
        self.first == 0x15
    }

    /// Bytes of the packet, as far as there is room for it.
    pub(super) const fn packet_len(&self) -> usize {
        self.end
    }

    /// Bytes of the packet that follow those, and are passed over.
    pub(super) const fn rest(&self) -> usize {
        self.rest
    }
}

/// The broker broke the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Broken;

/// A packet from the broker. Reasons are those of version 5 [2.4], also where 3.1.1 has others; from 0x80 on they are failures.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Packet<'p> {
    /// The answer to a connect [3.2].
    Connected { reason: u8 },
    /// A message [3.3]; with an `id` it is to be acknowledged. `again` says that it was sent before, `retained` that it was kept
    /// for whoever subscribes.
    Message { topic: &'p str, payload: &'p [u8], id: Option<NonZeroU16>, again: bool, retained: bool },
    /// The answer to a message with QoS 1 [3.4].
    Acknowledged { id: u16, reason: u8 },
    /// The answer to a subscription [3.9].
    Subscribed { id: u16, reason: u8 },
    /// The answer to the end of one [3.11].
    Unsubscribed,
    /// The answer to a ping [3.13].
    Pong,
    /// The broker ends the connection [3.14].
    Closed { reason: u8 },
}

impl<'p> Packet<'p> {
    /// Reads a whole packet.
    ///
    /// # Errors
    /// The packet is none that a broker may send to this client.
    pub(super) fn read(level: Level, header: Header, packet: &'p [u8]) -> Result<Self, Broken> {
        let body = packet.get(header.start..header.end).ok_or(Broken)?;
        Self::body(level, header.first, Reader(body)).ok_or(Broken)
    }

    fn body(level: Level, first: u8, mut body: Reader<'p>) -> Option<Self> {
        if first & 0xF0 == kind::PUBLISH {
            let topic = body.text().filter(|topic| !topic.is_empty())?;
            let id = match first >> 1 & 3 {
                0 => None,
                1 => Some(NonZeroU16::new(body.u16()?)?),
                _ => return None, // Subscriptions are with QoS 1 at most.
            };
            body.skip_properties(level)?;
            let (again, retained) = (first & 0x08 != 0, first & 0x01 != 0);
            return Some(Self::Message { topic, payload: body.0, id, again, retained });
        }
        Some(match first {
            kind::CONNACK => {
                body.byte()?; // Whether the broker knew the session.
                let reason = body.byte()?;
                // Two bytes are 3.1.1's form, whatever was asked for.
                Self::Connected { reason: if body.0.is_empty() { refusal(level, reason) } else { reason } }
            }
            // A missing reason is success [3.4.2.1], [3.14.2.1].
            kind::PUBACK => Self::Acknowledged { id: body.u16()?, reason: body.byte().unwrap_or(0) },
            kind::SUBACK => {
                let id = body.u16()?;
                body.skip_properties(level)?;
                let reason = match (level, body.byte()?) {
                    // The one failure that 3.1.1 has; there is one cause of it here.
                    (Level::V311, 0x80) => 0x87,
                    (_, reason) => reason,
                };
                Self::Subscribed { id, reason }
            }
            kind::UNSUBACK => Self::Unsubscribed,
            kind::PINGRESP => Self::Pong,
            kind::DISCONNECT => Self::Closed { reason: body.byte().unwrap_or(0) },
            _ => return None,
        })
    }
}

/// The reason of version 5 for a return code of 3.1.1 (its section 3.2.2.3).
fn refusal(level: Level, code: u8) -> u8 {
    const REASONS: [u8; 6] = [0, UNSUPPORTED, 0x85, 0x88, 0x86, 0x87];
    match REASONS.get(usize::from(code)) {
        // Taken, but as 3.1.1.
        Some(0) if level == Level::V5 => UNSUPPORTED,
        Some(reason) => *reason,
        // Not to be taken for success.
        None => code | 0x80,
    }
}

/// A packet being written: room for the fixed header, then the body.
struct Writer<'b> {
    buf: &'b mut [u8],
    len: usize,
}

impl<'b> Writer<'b> {
    fn new(buf: &'b mut [u8]) -> Option<Self> {
        (buf.len() >= FIXED).then_some(Self { buf, len: FIXED })
    }

    fn bytes(&mut self, bytes: &[u8]) -> Option<()> {
        let end = self.len.checked_add(bytes.len())?;
        self.buf.get_mut(self.len..end)?.copy_from_slice(bytes);
        self.len = end;
        Some(())
    }

    /// Text, behind its length [1.5.4].
    fn text(&mut self, text: &str) -> Option<()> {
        self.bytes(&u16::try_from(text.len()).ok()?.to_be_bytes())?;
        self.bytes(text.as_bytes())
    }

    /// An empty list of properties, where the version has them.
    fn no_properties(&mut self, level: Level) -> Option<()> {
        if level == Level::V5 { self.bytes(&[0]) } else { Some(()) }
    }

    /// Puts the fixed header in front; `more` bytes of body will be sent after these.
    fn finish(self, first: u8, more: usize) -> Option<&'b [u8]> {
        let mut header = [first, 0, 0, 0, 0];
        let mut used = 1;
        // Seven bits a byte, the lowest first; the eighth says that more follow [1.5.5].
        let mut rest = self.len - FIXED + more;
        loop {
            let last = rest < 0x80;
            *header.get_mut(used)? = (rest & 0x7F) as u8 | if last { 0 } else { 0x80 };
            used += 1;
            rest >>= 7;
            if last {
                break;
            }
        }
        let start = FIXED - used;
        self.buf.get_mut(start..FIXED)?.copy_from_slice(header.get(..used)?);
        // To the start, so that who keeps the buffer need not keep where it begins.
        self.buf.copy_within(start..self.len, 0);
        self.buf.get(..self.len - start)
    }
}

/// A packet being read.
struct Reader<'p>(&'p [u8]);

impl<'p> Reader<'p> {
    fn take(&mut self, count: usize) -> Option<&'p [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from(self.byte()?) << 8 | u16::from(self.byte()?))
    }

    fn text(&mut self) -> Option<&'p str> {
        let len = self.u16()?;
        core::str::from_utf8(self.take(len.into())?).ok()
    }

    /// A length of up to four bytes [1.5.5].
    fn length(&mut self) -> Option<usize> {
        let mut length = 0;
        for shift in [0, 7, 14, 21] {
            let byte = self.byte()?;
            length |= usize::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return Some(length);
            }
        }
        None
    }

    /// Nothing that a broker tells in properties is of use here [2.2.2].
    fn skip_properties(&mut self, level: Level) -> Option<()> {
        if level == Level::V311 {
            return Some(());
        }
        let length = self.length()?;
        self.take(length).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::Level::{V5, V311};
    use super::*;

    const ID: NonZeroU16 = NonZeroU16::new(0x0102).unwrap();

    fn read(bytes: &[u8]) -> Result<Packet<'_>, Broken> {
        let header = Header::read(bytes)?.ok_or(Broken)?;
        assert_eq!(header.packet_len(), bytes.len());
        Packet::read(Level::V5, header, bytes)
    }

    fn read_311(bytes: &[u8]) -> Result<Packet<'_>, Broken> {
        Packet::read(Level::V311, Header::read(bytes)?.ok_or(Broken)?, bytes)
    }

    #[test]
    fn what_is_written_is_what_the_standard_says() {
        let mut buf = [0; 128];
        let connect = Connect {
            client: "d",
            login: Some(("u", "pw")),
            will: ("t/online", "offline"),
            keep_alive: 30,
            session_expiry: 0x0001_5180,
        };
        let expected: Vec<u8> = [
            &b"\x10\x33\0\x04MQTT\x05\xEC\0\x1E\x0A\x11\0\x01\x51\x80\x27\0\0\x04\0"[..],
            b"\0\x01d\0\0\x08t/online\0\x07offline\0\x01u\0\x02pw",
        ]
        .concat();
        assert_eq!(connect.write(V5, &mut buf).unwrap(), expected);
        assert_eq!(subscribe(V5, "a/b", ID, true, &mut buf).unwrap(), b"\x82\x09\x01\x02\0\0\x03a/b\x01");
        assert_eq!(subscribe(V5, "a/b", ID, false, &mut buf).unwrap(), b"\xA2\x08\x01\x02\0\0\x03a/b");
        assert_eq!(publish(V5, "a", None, false, 2, &mut buf).unwrap(), b"\x30\x06\0\x01a\0");
        assert_eq!(
            publish(V5, "a", Some(ID), true, 200, &mut buf).unwrap(),
            b"\x33\xCE\x01\0\x01a\x01\x02\0"
        );
        assert_eq!(acknowledge(ID), [0x40, 2, 1, 2]);
    }

    #[test]
    fn what_is_written_in_3_1_1_has_no_properties_and_a_clean_session() {
        let mut buf = [0; 128];
        let will = ("t/online", "offline");
        let connect =
            Connect { client: "d", login: Some(("u", "pw")), will, keep_alive: 30, session_expiry: 1 };
        let expected = b"\x10\x27\0\x04MQTT\x04\xEE\0\x1E\0\x01d\0\x08t/online\0\x07offline\0\x01u\0\x02pw";
        assert_eq!(connect.write(V311, &mut buf).unwrap(), expected);
        assert_eq!(subscribe(V311, "a/b", ID, true, &mut buf).unwrap(), b"\x82\x08\x01\x02\0\x03a/b\x01");
        assert_eq!(subscribe(V311, "a/b", ID, false, &mut buf).unwrap(), b"\xA2\x07\x01\x02\0\x03a/b");
        assert_eq!(publish(V311, "a", None, false, 2, &mut buf).unwrap(), b"\x30\x05\0\x01a");
        assert_eq!(publish(V311, "a", Some(ID), true, 2, &mut buf).unwrap(), b"\x33\x07\0\x01a\x01\x02");
    }

    #[test]
    fn an_answer_is_read_by_its_length() {
        let reason =
            |level, bytes: &[u8]| match Packet::read(level, Header::read(bytes).unwrap().unwrap(), bytes) {
                Ok(Packet::Connected { reason }) => Some(reason),
                _ => None,
            };
        for (code, read) in [(1, 0x84), (2, 0x85), (3, 0x88), (4, 0x86), (5, 0x87), (6, 0x86), (0x84, 0x84)] {
            for level in [V5, V311] {
                assert_eq!(reason(level, &[0x20, 2, 0, code]), Some(read), "{level:?} {code}");
            }
        }
        assert_eq!(reason(V311, b"\x20\x02\0\0"), Some(0));
        assert_eq!(reason(V5, b"\x20\x02\0\0"), Some(UNSUPPORTED), "taken, but not as version 5");
        // The form of version 5, whatever was asked for.
        for level in [V5, V311] {
            assert_eq!(reason(level, b"\x20\x03\0\x84\0"), Some(UNSUPPORTED));
            assert_eq!(reason(level, b"\x20\x03\x01\0\0"), Some(0));
        }
        assert_eq!(reason(V5, b"\x20\x01\0"), None);
    }

    #[test]
    fn what_a_broker_of_3_1_1_sends_is_understood() {
        let message =
            |id, again, retained| Packet::Message { topic: "a", payload: b"\0x", id, again, retained };
        assert_eq!(read_311(b"\x30\x05\0\x01a\0x"), Ok(message(None, false, false)));
        assert_eq!(read_311(b"\x3B\x07\0\x01a\x01\x02\0x"), Ok(message(Some(ID), true, true)));
        assert_eq!(read_311(b"\x40\x02\x01\x02"), Ok(Packet::Acknowledged { id: 0x0102, reason: 0 }));
        assert_eq!(read_311(b"\x90\x03\x01\x02\x01"), Ok(Packet::Subscribed { id: 0x0102, reason: 1 }));
        assert_eq!(read_311(b"\x90\x03\x01\x02\x80"), Ok(Packet::Subscribed { id: 0x0102, reason: 0x87 }));
        assert_eq!(read_311(b"\xB0\x02\x01\x02"), Ok(Packet::Unsubscribed));
        assert_eq!(read_311(b"\xD0\0"), Ok(Packet::Pong));
    }

    #[test]
    fn a_packet_that_is_too_long_is_read_as_far_as_there_is_room() {
        let mut bytes = std::vec![b'x'; 5000];
        bytes[..8].copy_from_slice(b"\x32\x85\x27\0\x01a\x01\x02");
        let header = Header::read(&bytes).unwrap().unwrap();
        assert_eq!((header.packet_len(), header.rest()), (PACKET, 5000 - PACKET));
        let packet = Packet::read(V311, header, &bytes[..PACKET]).unwrap();
        assert!(
            matches!(packet, Packet::Message { payload, id: Some(ID), .. } if payload.len() > MAX_COMMAND)
        );
    }

    #[test]
    fn what_does_not_fit_is_not_written() {
        let mut buf = [0; 128];
        for level in [V5, V311] {
            let whole = subscribe(level, "a/b", ID, true, &mut buf).unwrap().len();
            for room in 0..whole + FIXED - 2 {
                assert_eq!(subscribe(level, "a/b", ID, true, &mut buf[..room]), None, "{room}");
            }
            assert!(subscribe(level, "a/b", ID, true, &mut buf[..whole + FIXED - 2]).is_some());
        }
    }

    #[test]
    fn what_a_broker_sends_is_understood() {
        let message =
            |id, again, retained| Packet::Message { topic: "a", payload: b"x", id, again, retained };
        assert_eq!(read(b"\x20\x03\x01\0\0"), Ok(Packet::Connected { reason: 0 }));
        assert_eq!(
            read(b"\x20\x02\0\x01"),
            Ok(Packet::Connected { reason: UNSUPPORTED }),
            "a broker that speaks 3.1.1 only"
        );
        assert_eq!(read(b"\x30\x05\0\x01a\0x"), Ok(message(None, false, false)));
        assert_eq!(read(b"\x31\x05\0\x01a\0x"), Ok(message(None, false, true)));
        assert_eq!(read(b"\x3A\x09\0\x01a\x01\x02\x02\x01\x01x"), Ok(message(Some(ID), true, false)));
        assert_eq!(read(b"\x3B\x09\0\x01a\x01\x02\x02\x01\x01x"), Ok(message(Some(ID), true, true)));
        assert_eq!(read(b"\x40\x02\x01\x02"), Ok(Packet::Acknowledged { id: 0x0102, reason: 0 }));
        assert_eq!(read(b"\x40\x04\x01\x02\x87\0"), Ok(Packet::Acknowledged { id: 0x0102, reason: 0x87 }));
        assert_eq!(read(b"\x90\x04\0\x01\0\x01"), Ok(Packet::Subscribed { id: 1, reason: 1 }));
        assert_eq!(read(b"\xD0\0"), Ok(Packet::Pong));
        assert_eq!(read(b"\xE0\0"), Ok(Packet::Closed { reason: 0 }));
        assert_eq!(read(b"\xE0\x02\x8E\0"), Ok(Packet::Closed { reason: 0x8E }));
    }

    #[test]
    fn what_a_broker_must_not_send_is_refused() {
        for bytes in [
            &b"\x30\x04\0\0\0x"[..],     // Without a topic: an alias, which was not allowed.
            b"\x34\x07\0\x01a\0\x01\0x", // QoS 2.
            b"\x32\x07\0\x01a\0\0\0x",   // Packet identifier 0.
            b"\x30\x05\0\x09a\0x",       // A topic longer than its packet.
            b"\x30\x05\0\x01\xFF\0x",    // No UTF-8.
            b"\x30\x05\0\x01a\x05x",     // Properties longer than their packet.
            b"\x40\x01\0",
            b"\x90\x03\0\x01\0",
            b"\xF0\0",
            b"\0\0",
        ] {
            assert_eq!(read(bytes), Err(Broken), "{bytes:x?}");
        }
        assert_eq!(Header::read(b"\x30\xFF\xFF\xFF\xFF"), Err(Broken), "a length without an end");
        assert_eq!(Header::read(b"\x30\xFF"), Ok(None));
    }

    #[test]
    fn any_bytes_are_taken() {
        let mut state: u32 = 1;
        let mut random = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        let mut read_whole = 0;
        for _ in 0..100_000 {
            let mut bytes = [0; 24];
            bytes.fill_with(&mut random);
            bytes[1] &= 0x0F;
            if let Ok(Some(header)) = Header::read(&bytes) {
                for level in [V5, V311] {
                    read_whole += usize::from(Packet::read(level, header, &bytes).is_ok());
                    let _ = Packet::read(level, header, &bytes[..2]);
                }
            }
        }
        assert!(read_whole > 100, "{read_whole}");
    }
}
