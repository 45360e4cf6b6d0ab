//! Cuts a stream of bytes into packets, before any of their bytes is kept for longer than needed.

use super::fault::Fault;

/// One whole packet at the beginning of some bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    /// First byte: the packet's type and its flags.
    pub(crate) first: u8,
    /// All after the fixed header.
    pub(crate) body: &'a [u8],
    /// Bytes of the whole packet.
    pub(crate) length: usize,
}

/// Content of the bytes so far.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Cut<'a> {
    Whole(Frame<'a>),
    /// More bytes are needed; the packet's whole length, once it is known.
    Partial(Option<usize>),
}

/// Cuts the first packet off, and refuses one above `limit` bytes as soon as its length is known.
pub(crate) fn cut(bytes: &[u8], limit: usize) -> Result<Cut<'_>, Fault> {
    let Some((first, rest)) = bytes.split_first() else { return Ok(Cut::Partial(None)) };
    let mut remaining = 0;
    for place in 0..4 {
        let Some(byte) = rest.get(place) else { return Ok(Cut::Partial(None)) };
        remaining |= usize::from(byte & 0x7F) << (7 * place);
        if byte & 0x80 != 0 {
            continue;
        }
        let head = 2 + place;
        let length = head + remaining;
        if length > limit {
            return Err(Fault::TooLarge);
        }
        return Ok(match bytes.get(head..length) {
            Some(body) => Cut::Whole(Frame { first: *first, body, length }),
            None => Cut::Partial(Some(length)),
        });
    }
    Err(Fault::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_cut_from_any_pieces() {
        let bytes = [0x30, 3, 0, 1, b'a', 0xC0, 0];
        for end in 0..5 {
            assert!(matches!(cut(&bytes[..end], 100), Ok(Cut::Partial(_))), "{end}");
        }
        let Ok(Cut::Whole(frame)) = cut(&bytes, 100) else { panic!() };
        assert_eq!((frame.first, frame.body, frame.length), (0x30, &bytes[2..5], 5));
        let Ok(Cut::Whole(ping)) = cut(&bytes[5..], 100) else { panic!() };
        assert_eq!((ping.first, ping.body.len(), ping.length), (0xC0, 0, 2));
    }

    #[test]
    fn a_length_is_refused_before_its_bytes_come() {
        assert_eq!(cut(&[0x30, 0xFF, 0xFF, 0xFF, 0x7F], 1000), Err(Fault::TooLarge));
        assert_eq!(cut(&[0x30, 99], 101), Ok(Cut::Partial(Some(101))));
        assert_eq!(cut(&[0x30, 100], 101), Err(Fault::TooLarge));
        assert_eq!(cut(&[0x30, 0x80, 0x80, 0x80, 0x80], 1000), Err(Fault::Malformed));
    }
}
