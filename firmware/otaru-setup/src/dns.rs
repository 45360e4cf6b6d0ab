//! The answer to every name: this device (RFC 1035). A phone that looks for the internet finds the set-up page.

use crate::dhcp::SERVER;

/// Bytes of a question's longest answer: header, name of 255 bytes, type and class, and the address record.
pub const LEN: usize = 12 + 255 + 4 + 16;

/// Writes the answer to a query; how long it is, or `None` if it is no query we answer.
pub fn answer(query: &[u8], out: &mut [u8; LEN]) -> Option<usize> {
    let (head, body) = query.split_first_chunk::<12>()?;
    // A standard query with one question.
    if head[2] & 0xF8 != 0 || head[4..6] != [0, 1] {
        return None;
    }
    let name = name_len(body)?;
    let question = body.get(..name + 4)?;
    // Type A or any, class IN; for other types the name exists, but has nothing.
    let has_address = matches!(question[name..], [0, 1 | 255, 0, 1]);
    let end = head.len() + question.len();
    out.get_mut(..end)?.copy_from_slice(query.get(..end)?);
    // An authoritative answer, recursion as it was asked for; one question, one answer or none, nothing else.
    out[2] = 0x84 | head[2] & 1;
    out[3] = 0;
    out[4..12].copy_from_slice(&[0, 1, 0, u8::from(has_address), 0, 0, 0, 0]);
    if !has_address {
        return Some(end);
    }
    let [a, b, c, d] = SERVER;
    // The name stands at byte 12; type A, class IN, valid for ten seconds: it is a lie, and should soon be forgotten.
    let record = [0xC0, 12, 0, 1, 0, 1, 0, 0, 0, 10, 0, 4, a, b, c, d];
    out.get_mut(end..end + record.len())?.copy_from_slice(&record);
    Some(end + record.len())
}

/// Bytes of the name at the start of `body`; `None` if it is not whole, or compressed, which questions are not.
fn name_len(body: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        match *body.get(at)? {
            0 => return (at < 255).then_some(at + 1),
            len @ 1..=63 => at += 1 + usize::from(len),
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUERY: &[u8] =
        b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07example\x03com\x00\x00\x01\x00\x01";

    #[test]
    fn every_name_is_this_device() {
        let mut out = [0; LEN];
        let len = answer(QUERY, &mut out).unwrap();
        assert_eq!(out[..4], [0x12, 0x34, 0x85, 0]);
        assert_eq!(out[7], 1);
        assert_eq!(out[len - 4..len], SERVER);
        let mut other = QUERY.to_vec();
        other[QUERY.len() - 3] = 28;
        assert_eq!(answer(&other, &mut out), Some(QUERY.len()));
        assert_eq!(out[7], 0);
    }

    #[test]
    fn any_bytes_are_taken() {
        let mut out = [0; LEN];
        for end in 0..QUERY.len() {
            assert_eq!(answer(&QUERY[..end], &mut out), None);
        }
        for at in 0..QUERY.len() {
            for byte in [0, 0x3F, 0xC0, 0xFF] {
                let mut changed = QUERY.to_vec();
                changed[at] = byte;
                let _ = answer(&changed, &mut out);
            }
        }
    }
}
