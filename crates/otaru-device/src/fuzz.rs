//! Entry points for fuzzers: readers of outside bytes that are nobody else's to call.

use core::convert::Infallible;
use core::num::NonZeroU16;
use core::task::Poll;
use core::time::Duration;

use embassy_futures::poll_once;
use embedded_io_async::{ErrorType, Read, Write};
use otaru_format::mqtt::Version;

use crate::board::Clock;
use crate::config::Config;
use crate::mqtt::{Buffers, Connection, Incoming};

/// A peer whose bytes come in pieces of one length and then end, and which takes everything.
struct Peer<'p> {
    bytes: &'p [u8],
    piece: usize,
}

impl ErrorType for Peer<'_> {
    type Error = Infallible;
}

impl Read for Peer<'_> {
    async fn read(&mut self, buf: &mut [u8]) -> Result<usize, Infallible> {
        let count = self.piece.min(buf.len()).min(self.bytes.len());
        let (now, later) = self.bytes.split_at(count);
        buf[..count].copy_from_slice(now);
        self.bytes = later;
        Ok(count)
    }
}

impl Write for Peer<'_> {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
        Ok(bytes.len())
    }

    async fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

/// Time that never passes.
struct Still;

impl Clock for Still {
    fn now(&self) -> Duration {
        Duration::ZERO
    }

    async fn sleep(&self, _: Duration) {
        core::future::pending().await
    }
}

/// Messages of a broker that a device understood, and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Understood {
    /// Packets.
    pub packets: usize,
    /// Bytes of the messages among them.
    pub bytes: usize,
}

/// Reads what a broker sends, from its answer to a connect on. `pieces` is how many bytes come at once, at least one; its highest bit
/// chooses MQTT 3.1.1.
pub fn mqtt(pieces: u8, bytes: &[u8]) -> Understood {
    let level = if pieces & 0x80 == 0 { Version::V5 } else { Version::V311 };
    let peer = Peer { bytes, piece: usize::from(pieces & 0x7F).max(1) };
    let mut understood = Understood::default();
    let talk = async {
        let (config, clock, mut buffers) = (Config::new("fuzz", "broker"), Still, Buffers::new());
        let Ok(topics) = config.check() else { return };
        let Ok(mut broker) = Connection::open(level, peer, &mut buffers, &config, &topics, &clock).await
        else {
            return;
        };
        while let Ok(header) = broker.header().await {
            let message = |topic: &str, payload: &[u8], _| {
                understood.bytes += payload.len();
                (topic == topics.update_all()).then_some(1)
            };
            match broker.packet(header, message).await {
                Ok(Incoming::Command { id, .. }) => {
                    broker.put_acknowledgement(id.unwrap_or(NonZeroU16::MIN));
                    let _ = broker.send(b"").await;
                }
                Ok(_) => {}
                Err(_) => return,
            }
            understood.packets += 1;
        }
    };
    assert!(matches!(poll_once(talk), Poll::Ready(())), "a peer that never waits is never waited for");
    understood
}

/// Reads an answer of a web server, head and body; gives back how many bytes the body had, if the head was understood. `pieces` is how
/// many bytes come at once, at least one.
pub fn http(pieces: u8, bytes: &[u8]) -> Option<usize> {
    let peer = Peer { bytes, piece: usize::from(pieces).max(1) };
    match poll_once(crate::http::fuzz::answer(peer)) {
        Poll::Ready(body) => body,
        Poll::Pending => unreachable!("a peer that never waits is never waited for"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_right_is_understood_in_pieces_of_any_length() {
        let mqtt_5 = b"\x20\x03\0\0\0\x90\x04\0\x01\0\x01\x30\x05\0\x01a\0x\xD0\0";
        let mqtt_311 = b"\x20\x02\0\0\x90\x03\0\x01\x01\x30\x04\0\x01ax\xD0\0";
        let answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
        for pieces in 0..0x80 {
            assert_eq!(mqtt(pieces, mqtt_5), Understood { packets: 3, bytes: 1 }, "{pieces}");
            assert_eq!(mqtt(0x80 | pieces, mqtt_311), Understood { packets: 3, bytes: 1 }, "{pieces}");
            assert_eq!(http(pieces, answer), Some(3), "{pieces}");
        }
        assert_eq!(mqtt(1, mqtt_311), Understood::default());
        assert_eq!(http(1, b"HTTP/2 200\r\n\r\n"), None);
    }

    #[test]
    fn a_packet_that_is_too_long_is_passed_over() {
        // 50,000 bytes behind the packet's head.
        let mut bytes = std::vec::Vec::from(&b"\x20\x02\0\0\x30\xD0\x86\x03\0\x01a"[..]);
        bytes.resize(bytes.len() + 49_997, b'x');
        bytes.extend(b"\xD0\0");
        for pieces in [1, 3, 127] {
            assert_eq!(mqtt(0x80 | pieces, &bytes).packets, 2, "{pieces}");
        }
    }
}
