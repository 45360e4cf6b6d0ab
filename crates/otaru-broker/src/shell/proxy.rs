//! The header with which a proxy tells who is behind it: versions 1 and 2 of the PROXY protocol.
//!
//! Only of proxies that are named it is looked for. No CONNECT begins like one, so that a named peer may come without it as well.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::{AsyncRead, AsyncWrite};

use super::wire::Wire;

/// First bytes of version 1.
const V1: &[u8] = b"PROXY ";
/// First bytes of version 2.
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Longest line of version 1, with its end.
const LONGEST_LINE: usize = 107;
/// Longest header of version 2 that is taken. Addresses need 52 bytes; the rest is for what is not read here.
const LONGEST: usize = 1024;
/// Bytes of version 2 before the addresses.
const FIXED: usize = 16;

/// Beginning of a connection from a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Header {
    /// It is no header.
    Absent,
    /// More bytes are needed.
    Partial,
    /// A whole header.
    Whole {
        /// Bytes of it.
        length: usize,
        /// Sender that it names, if it names one.
        sender: Option<SocketAddr>,
    },
    /// It begins as a header and is none.
    Broken,
}

impl Header {
    /// Reads what stands at the beginning of a connection.
    pub(super) fn read(bytes: &[u8]) -> Self {
        let may_become = |start: &[u8]| start.starts_with(bytes) || bytes.starts_with(start);
        if bytes.starts_with(V1) {
            line(bytes)
        } else if bytes.starts_with(V2) {
            binary(bytes)
        } else if may_become(V1) || may_become(V2) {
            Self::Partial
        } else {
            Self::Absent
        }
    }
}

/// Takes the header, if there is one, from the beginning of a stream. Returns the sender that it names.
///
/// # Errors
/// When the stream ends, and when it begins as a header and is none ([`io::ErrorKind::InvalidData`]).
pub(super) async fn take_header<S: AsyncRead + AsyncWrite + Unpin>(
    wire: &mut Wire<S>,
) -> io::Result<Option<SocketAddr>> {
    loop {
        match Header::read(&wire.incoming) {
            Header::Absent => return Ok(None),
            Header::Broken => return Err(io::ErrorKind::InvalidData.into()),
            Header::Whole { length, sender } => {
                wire.consume(length);
                return Ok(sender);
            }
            Header::Partial => {}
        }
        if poll_fn(|context| wire.poll_read(context, LONGEST)).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// Reads version 1: `PROXY TCP4 sender receiver port port`.
fn line(bytes: &[u8]) -> Header {
    let start = bytes.get(..LONGEST_LINE).unwrap_or(bytes);
    let Some(end) = start.windows(2).position(|two| two == b"\r\n") else {
        return if bytes.len() < LONGEST_LINE { Header::Partial } else { Header::Broken };
    };
    let words = bytes.get(V1.len()..end).and_then(|words| std::str::from_utf8(words).ok());
    let Some(words) = words else { return Header::Broken };
    let mut words = words.split(' ');
    let length = end + 2;
    let sender = match words.next() {
        Some("UNKNOWN") => return Header::Whole { length, sender: None },
        Some("TCP4") => named(&mut words, |ip| ip.parse().ok().map(IpAddr::V4)),
        Some("TCP6") => named(&mut words, |ip| ip.parse().ok().map(IpAddr::V6)),
        _ => return Header::Broken,
    };
    sender.map_or(Header::Broken, |sender| Header::Whole { length, sender: Some(sender) })
}

/// Reads sender, receiver and both ports.
fn named<'w>(
    words: &mut impl Iterator<Item = &'w str>,
    address: impl Fn(&str) -> Option<IpAddr>,
) -> Option<SocketAddr> {
    let (sender, _receiver) = (address(words.next()?)?, address(words.next()?)?);
    let (port, _to): (u16, u16) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    words.next().is_none().then_some(SocketAddr::new(sender, port))
}

/// Reads version 2.
fn binary(bytes: &[u8]) -> Header {
    let Some([command, family, high, low]) = bytes.get(V2.len()..FIXED) else { return Header::Partial };
    let length = FIXED + usize::from(u16::from_be_bytes([*high, *low]));
    if length > LONGEST || command >> 4 != 2 {
        return Header::Broken;
    }
    let Some(body) = bytes.get(FIXED..length) else { return Header::Partial };
    let sender = match (command & 0x0F, family) {
        // The proxy's own connection, as to see whether somebody is there.
        (0, _) => None,
        (1, 0x11) => Some(sender(body, |ip: [u8; 4]| Ipv4Addr::from(ip).into())),
        (1, 0x21) => Some(sender(body, |ip: [u8; 16]| Ipv6Addr::from(ip).into())),
        // Of a kind that has no address here.
        (1, _) => None,
        _ => return Header::Broken,
    };
    match sender {
        Some(None) => Header::Broken,
        sender => Header::Whole { length, sender: sender.flatten() },
    }
}

/// Reads the sender where addresses have `N` bytes: sender, receiver, and the sender's port.
fn sender<const N: usize>(body: &[u8], ip: impl Fn([u8; N]) -> IpAddr) -> Option<SocketAddr> {
    let (from, rest) = body.split_first_chunk::<N>()?;
    let (_to, ports) = rest.split_first_chunk::<N>()?;
    let (port, rest) = ports.split_first_chunk::<2>()?;
    let (_port, _more) = rest.split_first_chunk::<2>()?;
    Some(SocketAddr::new(ip(*from), u16::from_be_bytes(*port)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn whole(length: usize, sender: Option<&str>) -> Header {
        Header::Whole { length, sender: sender.map(|text| text.parse().unwrap()) }
    }

    /// A header of version 2 with this command, family and body.
    fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).unwrap().to_be_bytes();
        [V2, &[command, family], &length, body].concat()
    }

    fn good() -> Vec<(Vec<u8>, Option<&'static str>)> {
        let four = [[10, 1, 2, 3], [10, 0, 0, 1]].concat();
        let six = [Ipv6Addr::new(0x2001, 0xDB8, 0, 0, 0, 0, 0, 7).octets(), [0; 16]].concat();
        let ports = [0xC0, 0x01, 0x07, 0x5B];
        vec![
            (b"PROXY TCP4 10.1.2.3 10.0.0.1 49153 1883\r\n".to_vec(), Some("10.1.2.3:49153")),
            (b"PROXY TCP6 2001:db8::7 ::1 49153 1883\r\n".to_vec(), Some("[2001:db8::7]:49153")),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (b"PROXY UNKNOWN ffff:: :: 1 2\r\n".to_vec(), None),
            (v2(0x21, 0x11, &[&four[..], &ports].concat()), Some("10.1.2.3:49153")),
            (v2(0x21, 0x21, &[&six[..], &ports, b"\x04\0\x01x"].concat()), Some("[2001:db8::7]:49153")),
            (v2(0x20, 0, b""), None),
            (v2(0x21, 0x31, &[0; 216]), None),
        ]
    }

    #[test]
    fn senders_are_read_and_every_byte_is_waited_for() {
        for (bytes, sender) in good() {
            let followed = [&bytes[..], &[0x10, 12, 0, 4]].concat();
            assert_eq!(Header::read(&followed), whole(bytes.len(), sender), "{bytes:?}");
            for length in 0..bytes.len() {
                assert_eq!(Header::read(&bytes[..length]), Header::Partial, "{length} of {bytes:?}");
            }
        }
    }

    #[test]
    fn what_is_no_header_is_told_from_one_that_is_broken() {
        for other in [&[0x10, 12, 0, 4][..], b"GET / HTTP/1.1\r\n", b"PROXZ", b"\r\n\r\nX"] {
            assert_eq!(Header::read(other), Header::Absent, "{other:?}");
        }
        let long = [b"PROXY UNKNOWN ".as_slice(), &[b'x'; LONGEST_LINE]].concat();
        for broken in [
            b"PROXY TCP4 ::1 10.0.0.1 1 2\r\n".to_vec(),
            b"PROXY TCP4 10.1.2.3 10.0.0.1 1\r\n".to_vec(),
            b"PROXY TCP4 10.1.2.3 10.0.0.1 1 2 3\r\n".to_vec(),
            b"PROXY TCP4 10.1.2.3 10.0.0.1 70000 2\r\n".to_vec(),
            b"PROXY \xFF\r\n".to_vec(),
            b"PROXY UDP4 1 2\r\n".to_vec(),
            long,
            v2(0x11, 0x11, &[0; 12]),
            v2(0x22, 0x11, &[0; 12]),
            v2(0x21, 0x11, &[0; 11]),
            v2(0x21, 0x21, &[0; 35]),
            v2(0x21, 0x11, &[0; LONGEST]),
        ] {
            assert_eq!(Header::read(&broken), Header::Broken, "{broken:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(start in 0_usize..8, cut in 0_usize..60, bytes in prop::collection::vec(any::<u8>(), 0..1200)) {
            let good = good();
            let start = &good[start].0;
            let bytes = [&start[..cut.min(start.len())], &bytes[..]].concat();
            if let Header::Whole { length, .. } = Header::read(&bytes) {
                prop_assert!(length <= bytes.len().min(LONGEST));
            }
        }
    }
}
