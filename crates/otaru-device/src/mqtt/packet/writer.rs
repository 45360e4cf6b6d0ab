//! Writing a packet, its fixed header last.

use otaru_format::mqtt::Version;

/// Bytes of the longest fixed header [2.1]: kind, and a length in up to four bytes.
pub(super) const FIXED: usize = 5;

/// A packet being written: room for the fixed header, then the body.
pub(super) struct Writer<'b> {
    pub(super) buf: &'b mut [u8],
    pub(super) len: usize,
}

impl<'b> Writer<'b> {
    pub(super) fn new(buf: &'b mut [u8]) -> Option<Self> {
        (buf.len() >= FIXED).then_some(Self { buf, len: FIXED })
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) -> Option<()> {
        let end = self.len.checked_add(bytes.len())?;
        self.buf.get_mut(self.len..end)?.copy_from_slice(bytes);
        self.len = end;
        Some(())
    }

    /// Text, behind its length [1.5.4].
    pub(super) fn text(&mut self, text: &str) -> Option<()> {
        self.bytes(&u16::try_from(text.len()).ok()?.to_be_bytes())?;
        self.bytes(text.as_bytes())
    }

    /// An empty list of properties, where the version has them.
    pub(super) fn no_properties(&mut self, level: Version) -> Option<()> {
        if level == Version::V5 { self.bytes(&[0]) } else { Some(()) }
    }

    /// Puts the fixed header in front; `more` bytes of body will be sent after these.
    pub(super) fn finish(self, first: u8, more: usize) -> Option<&'b [u8]> {
        let mut header = [first, 0, 0, 0, 0];
        let mut used = 1;
        // Seven bits a byte, the lowest first; the eighth says that more follow [1.5.5].
        let mut rest = self.len - FIXED + more;
        loop {
            let last = rest < 0x80;
            *header.get_mut(used)? = (rest & 0x7F) as u8 | if last { 0 } else { 0x80 };
            used += 1;
            rest >>= 7;
            if last {
                break;
            }
        }
        let start = FIXED - used;
        self.buf.get_mut(start..FIXED)?.copy_from_slice(header.get(..used)?);
        // To the start, so that who keeps the buffer need not keep where it begins.
        self.buf.copy_within(start..self.len, 0);
        self.buf.get(..self.len - start)
    }
}
