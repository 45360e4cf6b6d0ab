//! The body of an answer in pieces (RFC 9112 sections 6 and 7).

use core::ops::Range;

use embedded_io_async::Read;

use super::FetchError;

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

/// A body as it arrives, through the buffer that its headers were in.
pub(super) struct Body<'b, R> {
    socket: R,
    buf: &'b mut [u8],
    /// Part of the buffer that is still to be given out.
    held: Range<usize>,
    framing: Framing,
}

impl<'b, R: Read> Body<'b, R> {
    pub(super) const fn new(socket: R, buf: &'b mut [u8], held: Range<usize>, framing: Framing) -> Self {
        Self { socket, buf, held, framing }
    }

    /// The next piece, and the same again until it is [consumed](Self::consume); empty at the body's end and where the
    /// connection ends.
    pub(super) async fn piece<E>(&mut self) -> Result<&[u8], FetchError<E>> {
        loop {
            let (done, left) = match self.framing {
                Framing::Length(left) | Framing::Chunk(left) => (left == 0, left as usize),
                Framing::Close => (false, usize::MAX),
                Framing::Done => (true, 0),
                Framing::Size | Framing::Gap => match self.pass_mark() {
                    Some(true) => continue,
                    Some(false) => return Err(FetchError::BadResponse),
                    None => (false, 0),
                },
            };
            if !self.held.is_empty() && left > 0 || done {
                let end = self.held.start.saturating_add(left).min(self.held.end);
                return Ok(&self.buf[self.held.start..end]);
            }
            if self.receive().await? == 0 {
                return Ok(&[]);
            }
        }
    }

    /// Passes over what stands between chunks; `None` when that is not all here, false when it is something else.
    fn pass_mark(&mut self) -> Option<bool> {
        let held = &self.buf[self.held.clone()];
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

    /// Reads more behind what is held; says how much.
    async fn receive<E>(&mut self) -> Result<usize, FetchError<E>> {
        if self.held.start > 0 {
            self.buf.copy_within(self.held.clone(), 0);
            self.held = 0..self.held.len();
        }
        let room = self.buf.get_mut(self.held.end..).filter(|room| !room.is_empty());
        let count = self.socket.read(room.ok_or(FetchError::BadResponse)?).await;
        let count = count.map_err(|_| FetchError::Truncated)?;
        self.held.end += count;
        Ok(count)
    }

    /// The first `count` bytes of the last piece are done with.
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

    /// Whether all of the body has come, now that there is no further piece.
    pub(super) const fn is_whole(&self) -> bool {
        // Where the connection's end is the body's, only the image itself can tell.
        matches!(self.framing, Framing::Length(0) | Framing::Close | Framing::Done)
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
