//! The part of CBOR (RFC 8949) that releases use, in deterministic encoding (section 4.2): shortest heads, definite
//! lengths, no floats, no simple values.

/// The major types (RFC 8949, section 3.1) that occur.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Major {
    Unsigned = 0,
    Bytes = 2,
    Text = 3,
    Array = 4,
    Map = 5,
    Tag = 6,
}

/// Reads items one after another. `None` means: not there, another type, or not the deterministic encoding.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Whether everything has been read.
    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Reads a head of this type: its argument.
    pub(super) fn head(&mut self, major: Major) -> Option<u64> {
        let (&first, rest) = self.0.split_first()?;
        if first >> 5 != major as u8 {
            return None;
        }
        let (value, rest) = match first & 31 {
            small @ 0..24 => (u64::from(small), rest),
            24 => argument::<1>(rest, 24)?,
            25 => argument::<2>(rest, 1 << 8)?,
            26 => argument::<4>(rest, 1 << 16)?,
            27 => argument::<8>(rest, 1 << 32)?,
            // Reserved, or an indefinite length.
            _ => return None,
        };
        self.0 = rest;
        Some(value)
    }

    pub(super) fn unsigned(&mut self) -> Option<u64> {
        self.head(Major::Unsigned)
    }

    pub(super) fn unsigned32(&mut self) -> Option<u32> {
        self.unsigned()?.try_into().ok()
    }

    pub(super) fn bytes(&mut self) -> Option<&'a [u8]> {
        self.string(Major::Bytes)
    }

    pub(super) fn array_of<const N: usize>(&mut self) -> Option<&'a [u8; N]> {
        self.bytes()?.try_into().ok()
    }

    pub(super) fn text(&mut self) -> Option<&'a str> {
        core::str::from_utf8(self.string(Major::Text)?).ok()
    }

    fn string(&mut self, major: Major) -> Option<&'a [u8]> {
        let len = usize::try_from(self.head(major)?).ok()?;
        let (string, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(string)
    }

    /// Reads with `read`, and gives the bytes that it read.
    pub(super) fn span(&mut self, read: impl FnOnce(&mut Self) -> Option<()>) -> Option<&'a [u8]> {
        let before = self.0;
        read(self)?;
        before.get(..before.len().checked_sub(self.0.len())?)
    }
}

/// A big-endian argument of `N` bytes, which must be at least `least`: a smaller one has a shorter head.
fn argument<const N: usize>(bytes: &[u8], least: u64) -> Option<(u64, &[u8])> {
    let (argument, rest) = bytes.split_first_chunk::<N>()?;
    let value = argument.iter().fold(0, |value, byte| value << 8 | u64::from(*byte));
    (value >= least).then_some((value, rest))
}

/// Writes items one after another; once one does not fit, nothing counts.
#[derive(Debug)]
pub(super) struct Writer<'a> {
    buf: &'a mut [u8],
    len: usize,
    overflow: bool,
}

impl<'a> Writer<'a> {
    pub(super) const fn new(buf: &'a mut [u8]) -> Self {
        Self { buf, len: 0, overflow: false }
    }

    /// Returns the bytes written; `None` when they did not fit.
    pub(super) fn finish(self) -> Option<&'a [u8]> {
        let Self { buf, len, overflow: false } = self else { return None };
        buf.get(..len)
    }

    pub(super) fn raw(&mut self, bytes: &[u8]) {
        let end = self.len.saturating_add(bytes.len());
        match self.buf.get_mut(self.len..end) {
            Some(room) if !self.overflow => {
                room.copy_from_slice(bytes);
                self.len = end;
            }
            _ => self.overflow = true,
        }
    }

    pub(super) fn head(&mut self, major: Major, value: u64) {
        let (bytes, len) = encode_head(major, value);
        self.raw(&bytes[..len]);
    }

    pub(super) fn unsigned(&mut self, value: u64) {
        self.head(Major::Unsigned, value);
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.head(Major::Bytes, bytes.len() as u64);
        self.raw(bytes);
    }

    pub(super) fn text(&mut self, text: &str) {
        self.head(Major::Text, text.len() as u64);
        self.raw(text.as_bytes());
    }
}

/// The shortest head, and how many of the bytes it has.
pub(super) fn encode_head(major: Major, value: u64) -> ([u8; 9], usize) {
    let mut head = [0; 9];
    let wide = value.to_be_bytes();
    let (info, from) = match value {
        0..24 => (wide[7], 8),
        24..0x100 => (24, 7),
        0x100..0x1_0000 => (25, 6),
        0x1_0000..0x1_0000_0000 => (26, 4),
        _ => (27, 0),
    };
    head[0] = (major as u8) << 5 | info;
    let argument = &wide[from..];
    head[1..=argument.len()].copy_from_slice(argument);
    (head, 1 + argument.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8949, appendix A.
    #[test]
    fn integers_are_as_in_the_standard() {
        let vectors: [(u64, &[u8]); 10] = [
            (0, &[0x00]),
            (23, &[0x17]),
            (24, &[0x18, 0x18]),
            (100, &[0x18, 0x64]),
            (1000, &[0x19, 0x03, 0xE8]),
            (65535, &[0x19, 0xFF, 0xFF]),
            (65536, &[0x1A, 0, 1, 0, 0]),
            (1_000_000, &[0x1A, 0x00, 0x0F, 0x42, 0x40]),
            (1_000_000_000_000, &[0x1B, 0, 0, 0, 0xE8, 0xD4, 0xA5, 0x10, 0]),
            (u64::MAX, &[0x1B, 255, 255, 255, 255, 255, 255, 255, 255]),
        ];
        for (value, bytes) in vectors {
            let (head, len) = encode_head(Major::Unsigned, value);
            assert_eq!(&head[..len], bytes);
            assert_eq!(Reader::new(bytes).unsigned(), Some(value));
        }
    }

    #[test]
    fn longer_heads_than_needed_are_refused() {
        for bytes in [
            &[0x18, 23][..],
            &[0x19, 0, 255],
            &[0x1A, 0, 0, 255, 255],
            &[0x1B, 0, 0, 0, 0, 255, 255, 255, 255],
            // Reserved, and indefinite.
            &[0x1C],
            &[0x1F],
        ] {
            assert_eq!(Reader::new(bytes).unsigned(), None, "{bytes:?}");
        }
        assert_eq!(Reader::new(&[0x5F, 0x41, 1, 0xFF]).bytes(), None);
    }

    #[test]
    fn strings_stay_within_their_bytes() {
        assert_eq!(Reader::new(&[0x42, 1]).bytes(), None);
        assert_eq!(Reader::new(&[0x5B, 255, 255, 255, 255, 255, 255, 255, 255, 1]).bytes(), None);
        assert_eq!(Reader::new(&[0x61, 0xFF]).text(), None);
        assert_eq!(Reader::new(b"\x63abc").text(), Some("abc"));
    }

    #[test]
    fn what_does_not_fit_is_told() {
        let mut buf = [0; 4];
        let mut writer = Writer::new(&mut buf);
        writer.text("four");
        writer.unsigned(1);
        assert_eq!(writer.finish(), None);
    }
}
