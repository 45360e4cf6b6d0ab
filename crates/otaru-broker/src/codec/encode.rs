//! Integers, strings and whole packets as bytes at the end of a buffer.

/// Bytes of the longest packet that MQTT has: its first byte, and the largest length in four bytes.
pub(crate) const LONGEST_PACKET: usize = 5 + 0x0FFF_FFFF;

/// Length of a variable byte integer.
pub(crate) fn varint_length(value: usize) -> usize {
    match value {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        0x4000..0x20_0000 => 3,
        _ => 4,
    }
}

pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        out.push((value & 0x7F) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(crate) fn put_string(out: &mut Vec<u8>, text: &str) {
    let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
    out.extend(length.to_be_bytes());
    out.extend_from_slice(text.get(..length.into()).unwrap_or_default().as_bytes());
}

/// Writes a packet around its body.
pub(super) fn put_packet(out: &mut Vec<u8>, first: u8, body: &[u8]) {
    out.push(first);
    put_varint(out, body.len());
    out.extend_from_slice(body);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::reader::Reader;

    #[test]
    fn integers_have_the_length_they_say_and_are_read_back() {
        for value in [0, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152, 268_435_455] {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            assert_eq!((out.len(), Reader(&out).varint()), (varint_length(value), Ok(value as u32)));
        }
    }
}
