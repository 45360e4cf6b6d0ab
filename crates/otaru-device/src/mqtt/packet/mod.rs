//! MQTT packets, as many of them as a device needs that takes commands and gives reports (OASIS standard of MQTT 5, 7 March 2019;
//! numbers in brackets are its sections). Those of MQTT 3.1.1 (29 October 2014) are the same without properties and reasons.
//!
//! Our own, because clients for everything that MQTT 5 can do take ten times the flash. Writing fails only where
//! memory is too small, reading takes any bytes.

mod reader;
#[cfg(test)]
mod tests;
mod writer;

use core::num::NonZeroU16;

use otaru_format::command::MAX_COMMAND;
use otaru_format::mqtt::Version;

use reader::Reader;
use writer::{FIXED, Writer};

/// Bytes of an incoming packet that are looked at. A broker of version 5 is told, and sends no longer ones; of a longer one the rest
/// is passed over. There is room for the longest command, and for the longest report where it comes back.
pub(super) const PACKET: usize = MAX_COMMAND + 448;

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
    pub(super) fn write<'b>(&self, level: Version, buf: &'b mut [u8]) -> Option<&'b [u8]> {
        /// Will, its QoS 1, and its retaining [3.1.2]; with version 5 the session that the broker has is gone on with.
        const WILL: u8 = 0x04 | 0x08 | 0x20;
        const CLEAN: u8 = 0x02;
        let login = if self.login.is_some() { 0x80 | 0x40 } else { 0 };
        let (number, clean) = if level == Version::V5 { (5, 0) } else { (4, CLEAN) };
        let mut out = Writer::new(buf)?;
        out.text("MQTT")?;
        out.bytes(&[number, WILL | clean | login])?;
        out.bytes(&self.keep_alive.to_be_bytes())?;
        if level == Version::V5 {
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
    level: Version,
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
    level: Version,
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
    pub(super) fn read(level: Version, header: Header, packet: &'p [u8]) -> Result<Self, Broken> {
        let body = packet.get(header.start..header.end).ok_or(Broken)?;
        Self::body(level, header.first, Reader(body)).ok_or(Broken)
    }

    fn body(level: Version, first: u8, mut body: Reader<'p>) -> Option<Self> {
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
                    (Version::V311, 0x80) => 0x87,
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
fn refusal(level: Version, code: u8) -> u8 {
    const REASONS: [u8; 6] = [0, UNSUPPORTED, 0x85, 0x88, 0x86, 0x87];
    match REASONS.get(usize::from(code)) {
        // Taken, but as 3.1.1.
        Some(0) if level == Version::V5 => UNSUPPORTED,
        Some(reason) => *reason,
        // Not to be taken for success.
        None => code | 0x80,
    }
}
