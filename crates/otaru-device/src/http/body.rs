//! The body of an answer in pieces (RFC 9112 sections 6 and 7).

use core::ops::Range;

use embedded_io_async::Read;

use super::FetchError;
use crate::dial::MayBeTls;

/// Framing that tells a body's end (RFC 9112 section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// It has so many more bytes.
    Length(u32),
    /// The connection ends with it.
    Close,
    /// In chunks; the size of the next one comes next (section 7.1).
    Size,
    /// Of the present chunk so many more bytes.
    Chunk(u32),
    /// The chunk's end of line comes next.
    Gap,
    /// All chunks have come.
    Done,
}

/// A body as it arrives, in the buffer that its headers were in. Connection and buffer are lent to each call.
pub(super) struct Body {
    /// Part of the buffer that is still to be given out.
    held: Range<usize>,
    framing: Framing,
}

impl Body {
    /// Goes on behind a head; `held` is the part of the buffer that came with it.
    pub(super) const fn new(held: Range<usize>, framing: Framing) -> Self {
        Self { held, framing }
    }

    /// Waits for the next [piece](Self::piece) and returns its length: 0 at the body's end and where the connection ends.
    pub(super) async fn fill<R: Read<Error: MayBeTls>>(
        &mut self,
        socket: &mut R,
        buf: &mut [u8],
    ) -> Result<usize, FetchError> {
        loop {
            let piece = self.piece(buf).len();
            if piece > 0 || matches!(self.framing, Framing::Length(0) | Framing::Done) {
                return Ok(piece);
            }
            if matches!(self.framing, Framing::Size | Framing::Gap) {
                match self.pass_mark(buf) {
                    Some(true) => continue,
                    Some(false) => return Err(FetchError::BadResponse),
                    None => {}
                }
            }
            if self.receive(socket, buf).await? == 0 {
                return Ok(0);
            }
        }
    }

    /// Returns the bytes that are here, until they are [consumed](Self::consume).
    pub(super) fn piece<'b>(&self, buf: &'b [u8]) -> &'b [u8] {
        let left = match self.framing {
            Framing::Length(left) | Framing::Chunk(left) => left as usize,
            Framing::Close => usize::MAX,
            Framing::Size | Framing::Gap | Framing::Done => 0,
        };
        &buf[self.held.start..self.held.start.saturating_add(left).min(self.held.end)]
    }

    /// Passes over what stands between chunks; `None` when that is not all here, false when it is something else.
    fn pass_mark(&mut self, buf: &[u8]) -> Option<bool> {
        let held = &buf[self.held.clone()];
        let len = held.iter().position(|b| *b == b'\n');
        if self.framing == Framing::Gap {
            let is_gap = match len {
                Some(len) => matches!(held[..len], [] | [b'\r']),
                None if held.len() < 2 => return None,
                None => false,
            };
            self.framing = Framing::Size;
            self.held.start += len.unwrap_or(0) + 1;
            return Some(is_gap);
        }
        let len = len?;
        let Some(size) = chunk_size(&held[..len]) else { return Some(false) };
        self.framing = if size == 0 { Framing::Done } else { Framing::Chunk(size) };
        self.held.start += len + 1;
        Some(true)
    }

    /// Reads more behind what is held and returns how much.
    async fn receive<R: Read<Error: MayBeTls>>(
        &mut self,
        socket: &mut R,
        buf: &mut [u8],
    ) -> Result<usize, FetchError> {
        if self.held.start > 0 {
            buf.copy_within(self.held.clone(), 0);
            self.held = 0..self.held.len();
        }
        let room = buf.get_mut(self.held.end..).filter(|room| !room.is_empty());
        let count = socket.read(room.ok_or(FetchError::BadResponse)?).await;
        let count = count.map_err(|error| error.tls().map_or(FetchError::Truncated, FetchError::Tls))?;
        self.held.end += count;
        Ok(count)
    }

    /// Drops the first `count` bytes of the piece.
    pub(super) fn consume(&mut self, count: u32) {
        self.held.start = self.held.end.min(self.held.start + count as usize);
        match &mut self.framing {
            Framing::Length(left) => *left = left.saturating_sub(count),
            Framing::Chunk(left) => {
                *left = left.saturating_sub(count);
                if *left == 0 {
                    self.framing = Framing::Gap;
                }
            }
            _ => {}
        }
    }

    /// Returns whether all of the body has come, once there is no further piece.
    pub(super) const fn is_whole(&self) -> bool {
        // Where the connection's end is the body's, only the image itself can tell.
        matches!(self.framing, Framing::Length(0) | Framing::Close | Framing::Done)
    }

    /// Returns whether the connection stands just behind the body: the next answer may follow. Behind chunks come trailers, which are
    /// not read.
    pub(super) const fn is_left_behind(&self) -> bool {
        matches!(self.framing, Framing::Length(0)) && self.held.start == self.held.end
    }
}

/// Reads a chunk's size; extensions behind it are passed over (RFC 9112 section 7.1.1).
fn chunk_size(line: &[u8]) -> Option<u32> {
    let end = line.iter().position(|b| !b.is_ascii_hexdigit()).unwrap_or(line.len());
    let (digits, rest) = line.split_at(end);
    if digits.is_empty() || !matches!(rest.trim_ascii().first(), None | Some(b';')) {
        return None;
    }
    digits.iter().try_fold(0_u32, |size, digit| {
        let digit = char::from(*digit).to_digit(16)?;
        size.checked_mul(16)?.checked_add(digit)
    })
}
