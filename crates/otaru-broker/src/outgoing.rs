//! Bytes on their way to one client: a few packets in a buffer, and at most one large payload that is shared with its other
//! receivers.

use bytes::{Buf as _, Bytes};

use crate::codec::publish::Head;
use crate::version::Version;

/// Bytes in the buffer above which nothing more is put in.
const ENOUGH: usize = 4096;
/// Largest payload that is copied; a larger one is shared.
const COPIED: usize = 1024;

/// Bytes to be written.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    packets: Vec<u8>,
    /// Bytes of `packets` that are written.
    written: usize,
    /// Payload of the last packet.
    payload: Bytes,
}

impl Outgoing {
    pub(crate) fn is_empty(&self) -> bool {
        self.packets.len() == self.written && self.payload.is_empty()
    }

    /// Tells whether no more may be put in before some is written.
    pub(crate) fn is_full(&self) -> bool {
        self.packets.len() >= ENOUGH || !self.payload.is_empty()
    }

    /// Returns the buffer for further packets, which must not be used when it [is full](Self::is_full).
    pub(crate) fn packets(&mut self) -> &mut Vec<u8> {
        &mut self.packets
    }

    /// Puts a message in.
    pub(crate) fn publish(&mut self, version: Version, head: &Head<'_>, payload: &Bytes) {
        head.write(version, &mut self.packets);
        match payload.len() <= COPIED {
            true => self.packets.extend_from_slice(payload),
            false => self.payload = payload.clone(),
        }
    }

    /// Returns what is to be written next.
    pub(crate) fn next(&self) -> &[u8] {
        match self.packets.get(self.written..) {
            Some(packets) if !packets.is_empty() => packets,
            _ => &self.payload,
        }
    }

    /// Notes that so many bytes are written. Memory is given back as soon as nothing is left.
    pub(crate) fn advance(&mut self, count: usize) {
        let of_packets = count.min(self.packets.len() - self.written);
        self.written += of_packets;
        self.payload.advance((count - of_packets).min(self.payload.len()));
        if self.is_empty() {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::version::Qos;

    #[test]
    fn bytes_leave_in_their_order_and_nothing_is_kept() {
        let mut out = Outgoing::default();
        out.packets().extend_from_slice(b"\xD0\0");
        let payload = Bytes::from(vec![7; 5000]);
        let head = Head {
            topic: "t",
            qos: Qos::Zero,
            retain: false,
            repeated: false,
            id: 0,
            expiry: None,
            properties: &[],
            subscriptions: &[],
            payload: payload.len(),
        };
        out.publish(Version::V311, &head, &payload);
        assert!(out.is_full());
        let mut seen = Vec::new();
        while !out.is_empty() {
            let piece = out.next();
            let count = piece.len().min(999);
            seen.extend_from_slice(&piece[..count]);
            out.advance(count);
        }
        assert_eq!(seen.len(), 2 + head.packet_length(Version::V311));
        assert!(seen.starts_with(b"\xD0\0\x30") && seen.ends_with(&payload));
        assert_eq!(out.packets.capacity(), 0);
    }
}
