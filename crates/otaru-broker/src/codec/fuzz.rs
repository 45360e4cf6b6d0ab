//! All parsers at once, over any bytes: for a fuzzer and for a test.

use super::connack::{CONNACK, Connack};
use super::connect::Connect;
use super::frame::{Cut, cut};
use super::packet::Packet;
use super::server_packet::ServerPacket;
use crate::version::Version;

/// Reads bytes as packets of a client, as a broker does, and as packets of a broker, as a client does, in both versions; returns how
/// many packets they were.
pub fn fuzz_packets(bytes: &[u8]) -> usize {
    let mut packets = 0;
    for version in [Version::V311, Version::V5] {
        let mut rest = bytes;
        while let Ok(Cut::Whole(frame)) = cut(rest, 256 * 1024) {
            packets += usize::from(Connect::parse(&frame).is_ok());
            packets += Packet::parse(version, &frame).map_or(0, |packet| 1 + contents(&packet));
            packets += usize::from(Connack::parse(frame.body).is_ok() && frame.first == CONNACK);
            packets += usize::from(ServerPacket::parse(version, frame.first, frame.body).is_ok());
            rest = rest.get(frame.length..).unwrap_or_default();
        }
    }
    packets
}

/// Walks through what a packet holds.
fn contents(packet: &Packet<'_>) -> usize {
    match packet {
        Packet::Subscribe(subscribe) => subscribe.filters().count(),
        Packet::Unsubscribe(unsubscribe) => unsubscribe.filters().count(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A packet that is cut short or changed in one place.
    fn nearly_right() -> impl Strategy<Value = Vec<u8>> {
        let packets: [&[u8]; 9] = [
            b"\x10\x18\0\x04MQTT\x05\xC6\0\x05\0\0\x01c\0\0\x01w\0\0\0\0\0\0",
            b"\x32\x10\0\x01t\0\x09\x08\x01\x01\x08\0\x03r/sHi",
            b"\x82\x0c\0\x07\x02\x0b\x05\0\x01a\0\0\0\x01",
            b"\xA2\x06\0\x07\0\0\x01a",
            b"\x40\x09\0\x05\x10\x05\x1f\0\x02ok",
            b"\xE0\x07\0\x05\x11\0\0\0\x09",
            b"\x20\x0b\0\0\x08\x21\0\x14\x27\0\0\x01\0",
            b"\x90\x09\0\x07\x05\x1f\0\x02no\x87",
            b"\xE0\x07\x8b\x05\x1f\0\x02no",
        ];
        (prop::sample::select(packets.to_vec()), any::<prop::sample::Index>(), any::<u8>()).prop_map(
            |(packet, place, byte)| {
                let mut packet = packet.to_vec();
                let place = place.index(packet.len());
                packet[place] = byte;
                packet
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn no_bytes_are_too_much(first in any::<u8>(), body in prop::collection::vec(any::<u8>(), 0..60)) {
            fuzz_packets(&[&[first, body.len() as u8][..], &body].concat());
        }

        #[test]
        fn packets_that_are_nearly_right_are_read_or_refused(packet in nearly_right()) {
            fuzz_packets(&packet);
        }
    }

    #[test]
    fn packets_are_counted() {
        let connect = b"\x10\x18\0\x04MQTT\x05\xC6\0\x05\0\0\x01c\0\0\x01w\0\0\0\0\0\0";
        assert_eq!(fuzz_packets(connect), 2, "a CONNECT says its version itself");
        assert_eq!(fuzz_packets(b"\x20\x02\0\0\xD0\0"), 4, "a CONNACK and a PINGRESP");
        assert_eq!(fuzz_packets(b"\xC0\0\xC0\0"), 4, "two in each version");
        assert_eq!(fuzz_packets(b"\x82\x06\0\x07\0\x01a\0"), 2, "with its filter");
    }
}
