//! A stream that looks at the records going by: Mbed TLS says that there was an alert, but not which, and that something is no record,
//! but not
//! whether the server speaks TLS at all.
#![forbid(unsafe_code)]

use embedded_io_async::{ErrorType, Read, Write};

/// Largest record, in bytes of what it carries, that a session has room for.
pub const LARGEST_RECORD: usize = mbedtls_rs::sys::MBEDTLS_SSL_IN_CONTENT_LEN as usize;

/// Kinds of records (RFC 8446, 5.1).
const KINDS: core::ops::RangeInclusive<u8> = 20..=23;
const ALERT: u8 = 21;
/// Bytes of a record's head: kind, version, length.
const HEAD: usize = 5;

/// Most reads of what nobody has read.
const MOST_READS: usize = 100;

/// Heads of the records that came in.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Records {
    head: [u8; HEAD],
    /// Bytes of the head that are there.
    count: usize,
    /// Bytes of the record that come after its head.
    rest: u16,
    /// Bytes of an alert: how bad, and which.
    alert: [u8; 2],
    strange: bool,
    largest: u16,
    /// Bytes of all records so far, as their heads have it.
    announced: usize,
}

impl Records {
    /// Whether something came in that is no record.
    pub(crate) fn is_strange(&self) -> bool {
        self.strange
    }

    /// Length of the longest record.
    pub(crate) fn largest(&self) -> usize {
        self.largest.into()
    }

    /// Bytes of all records that came or are about to.
    pub(crate) fn announced(&self) -> usize {
        self.announced
    }

    /// Number of the last alert that came in clear (RFC 8446, 6).
    pub(crate) fn alert(&self) -> Option<u8> {
        let [kind, .., high, low] = self.head;
        let in_clear = kind == ALERT && u16::from_be_bytes([high, low]) == 2;
        (self.count == HEAD && in_clear && self.rest == 0).then_some(self.alert[1])
    }

    fn see(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.see_byte(*byte);
        }
    }

    fn see_byte(&mut self, byte: u8) {
        if self.strange {
            return;
        }
        if self.rest > 0 {
            self.rest -= 1;
            self.alert = [self.alert[1], byte];
            return;
        }
        if self.count == HEAD {
            self.count = 0;
        }
        if let Some(place) = self.head.get_mut(self.count) {
            *place = byte;
        }
        self.count += 1;
        let [kind, major, _, high, low] = self.head;
        self.strange = !KINDS.contains(&kind) || (self.count > 1 && major != 3);
        if self.count == HEAD {
            self.rest = u16::from_be_bytes([high, low]);
            self.largest = self.largest.max(self.rest);
            self.announced = self.announced.saturating_add(HEAD + usize::from(self.rest));
        }
    }
}

/// Stream whose [`Records`] are looked at.
pub(crate) struct Watched<S> {
    stream: S,
    records: Records,
}

impl<S> Watched<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, records: Records::default() }
    }

    pub(crate) fn records(&self) -> Records {
        self.records
    }
}

impl<S: Read> Watched<S> {
    /// Looks at what has come in and nobody has read. For a stream that cannot be written to any more: its end, or an error, is near.
    pub(crate) async fn look_at_rest(&mut self) {
        for _ in 0..MOST_READS {
            match self.read(&mut [0; 64]).await {
                Ok(count) if count > 0 => {}
                _ => return,
            }
        }
    }
}

impl<S: ErrorType> ErrorType for Watched<S> {
    type Error = S::Error;
}

impl<S: Read> Read for Watched<S> {
    async fn read(&mut self, buf: &mut [u8]) -> Result<usize, S::Error> {
        let count = self.stream.read(buf).await?;
        self.records.see(buf.get(..count).unwrap_or_default());
        Ok(count)
    }
}

impl<S: Write> Write for Watched<S> {
    async fn write(&mut self, buf: &[u8]) -> Result<usize, S::Error> {
        self.stream.write(buf).await
    }

    async fn flush(&mut self) -> Result<(), S::Error> {
        self.stream.flush().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(bytes: &[u8]) -> Records {
        let mut records = Records::default();
        records.see(bytes);
        records
    }

    #[test]
    fn an_alert_in_clear_is_told() {
        let hello = [22, 3, 3, 0, 4, 2, 0, 0, 0];
        let alert = [21, 3, 3, 0, 2, 2, 40];
        assert_eq!(seen(&alert).alert(), Some(40));
        assert_eq!(seen(&[&hello[..], &alert].concat()).alert(), Some(40));
        for end in 0..alert.len() {
            assert_eq!(seen(&alert[..end]).alert(), None, "{end} bytes");
        }
        // An encrypted one is longer.
        assert_eq!(seen(&[21, 3, 3, 0, 3, 2, 40, 0]).alert(), None);
        assert_eq!(seen(&hello).alert(), None);
    }

    #[test]
    fn the_longest_record_is_told_before_it_is_there() {
        assert_eq!(seen(&[22, 3, 3, 0x40, 0x18]).largest(), 16_408);
        assert_eq!(seen(&[22, 3, 3, 0, 1, 9, 23, 3, 3, 0, 2]).announced(), 6 + 7);
        assert_eq!(seen(&[22, 3, 3, 0, 1, 9, 23, 3, 3, 0, 3, 1, 2, 3, 23, 3, 3, 0, 2]).largest(), 3);
    }

    #[test]
    fn what_is_no_record_is_strange() {
        assert!(!seen(b"").is_strange());
        for other in [&b"HTTP/1.1 400"[..], b"\x20\x02\x00\x05", b"\x16H", b"\x16\x03\x03\x00\x01\x00SSH"] {
            assert!(seen(other).is_strange(), "{other:?}");
        }
        assert!(!seen(&[22, 3, 1, 0, 0, 21, 3]).is_strange());
    }
}
