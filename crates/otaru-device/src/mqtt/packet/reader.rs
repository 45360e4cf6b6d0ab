//! Reading the fields of a packet.

use otaru_format::mqtt::Version;

/// A packet being read.
pub(super) struct Reader<'p>(pub(super) &'p [u8]);

impl<'p> Reader<'p> {
    pub(super) fn take(&mut self, count: usize) -> Option<&'p [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    pub(super) fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        Some(u16::from(self.byte()?) << 8 | u16::from(self.byte()?))
    }

    pub(super) fn text(&mut self) -> Option<&'p str> {
        let len = self.u16()?;
        core::str::from_utf8(self.take(len.into())?).ok()
    }

    /// A length of up to four bytes [1.5.5].
    pub(super) fn length(&mut self) -> Option<usize> {
        let mut length = 0;
        for shift in [0, 7, 14, 21] {
            let byte = self.byte()?;
            length |= usize::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return Some(length);
            }
        }
        None
    }

    /// Nothing that a broker tells in properties is of use here [2.2.2].
    pub(super) fn skip_properties(&mut self, level: Version) -> Option<()> {
        if level == Version::V311 {
            return Some(());
        }
        let length = self.length()?;
        self.take(length).map(|_| ())
    }
}
