//! The images as the decoder sees them: the old one through a window and a few lines of cache, the new one through the
//! piece that is being made and a few lines of cache.

use crate::error::{DeltaError, PatchError};
use crate::host::Host;
use crate::predict::{LOOKAHEAD, Window, Words};

/// Bytes of a piece of the new image.
const PIECE: usize = 1024;
/// Bytes of the old image that are read ahead.
const AHEAD: usize = 1024;
/// Bytes of a line of cache.
const LINE: usize = 256;
/// Lines of each cache.
const LINES: usize = 8;
/// The number of no line.
const NO_LINE: u32 = u32::MAX;

/// Buffers for both images.
pub(crate) struct Buffers {
    ahead: [u8; AHEAD + LOOKAHEAD],
    piece: [u8; PIECE],
    old: Cache,
    new: Cache,
}

impl Buffers {
    pub(crate) const fn new() -> Self {
        Self { ahead: [0; AHEAD + LOOKAHEAD], piece: [0; PIECE], old: Cache::new(), new: Cache::new() }
    }
}

/// Lines of an image that were read last, each at the place its number leads to.
struct Cache {
    numbers: [u32; LINES],
    lines: [[u8; LINE]; LINES],
}

impl Cache {
    const fn new() -> Self {
        Self { numbers: [0; LINES], lines: [[0; LINE]; LINES] }
    }

    /// The place for the line with this number, and whether it is there.
    fn line(&mut self, number: u32) -> (&mut [u8; LINE], &mut u32) {
        let place = number as usize % LINES;
        (&mut self.lines[place], &mut self.numbers[place])
    }
}

/// A word in a buffer.
fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}

/// Both images.
pub(crate) struct Images<'w, 'h, H> {
    pub(crate) host: &'h mut H,
    buffers: &'w mut Buffers,
    old_len: u32,
    /// Part of the old image in the window: from where to where.
    ahead: (u32, u32),
    /// Number of bytes of the new image that the host has.
    written: u32,
    /// Number of bytes of the piece.
    filled: usize,
}

impl<'w, 'h, H: Host> Images<'w, 'h, H> {
    pub(crate) fn new(host: &'h mut H, buffers: &'w mut Buffers, old_len: u32) -> Self {
        for cache in [&mut buffers.old, &mut buffers.new] {
            cache.numbers.fill(NO_LINE);
        }
        Self { host, buffers, old_len, ahead: (0, 0), written: 0, filled: 0 }
    }

    /// Bytes of the new image so far.
    pub(crate) fn made(&self) -> u32 {
        self.written + self.filled as u32
    }

    /// Adds a byte to the new image.
    #[inline]
    pub(crate) async fn put(&mut self, byte: u8) -> Result<(), DeltaError<H::Error>> {
        self.buffers.piece[self.filled] = byte;
        self.filled += 1;
        if self.filled == PIECE {
            self.flush().await?;
        }
        Ok(())
    }

    /// Hands over what was made.
    pub(crate) async fn flush(&mut self) -> Result<(), DeltaError<H::Error>> {
        if self.filled > 0 {
            self.host.write_new(&self.buffers.piece[..self.filled]).await.map_err(DeltaError::Host)?;
            self.written += self.filled as u32;
            self.filled = 0;
        }
        Ok(())
    }

    /// The old image's bytes from an offset on, zeros beyond its end.
    #[inline]
    pub(crate) async fn window(&mut self, offset: u32) -> Result<&Window, DeltaError<H::Error>> {
        if offset < self.ahead.0 || offset >= self.ahead.1 {
            self.look(offset).await?;
        }
        let at = (offset - self.ahead.0) as usize;
        // There are as many bytes behind the last one.
        self.buffers.ahead.get(at..).and_then(|rest| rest.first_chunk()).ok_or(PatchError::Reference.into())
    }

    async fn look(&mut self, offset: u32) -> Result<(), DeltaError<H::Error>> {
        let start = offset - offset % LINE as u32;
        let there = self.old_len.saturating_sub(start).min(self.buffers.ahead.len() as u32);
        let (image, beyond) = self.buffers.ahead.split_at_mut(there as usize);
        if !image.is_empty() {
            self.host.read_old(start, image).await.map_err(DeltaError::Host)?;
        }
        beyond.fill(0);
        self.ahead = (start, start + AHEAD as u32);
        Ok(())
    }
}

impl<H: Host> Words for Images<'_, '_, H> {
    type Error = DeltaError<H::Error>;

    async fn old_word(&mut self, offset: u32) -> Result<Option<u32>, Self::Error> {
        if !offset.is_multiple_of(4) || offset >= self.old_len & !3 {
            return Ok(None);
        }
        let number = offset / LINE as u32;
        let (line, held) = self.buffers.old.line(number);
        if *held != number {
            *held = NO_LINE;
            let start = number * LINE as u32;
            let there = (self.old_len - start).min(LINE as u32) as usize;
            self.host.read_old(start, &mut line[..there]).await.map_err(DeltaError::Host)?;
            *held = number;
        }
        Ok(word(line, offset as usize % LINE))
    }

    async fn new_word(&mut self, offset: u32) -> Result<Option<u32>, Self::Error> {
        if !offset.is_multiple_of(4) {
            return Ok(None);
        }
        if let Some(at) = offset.checked_sub(self.written) {
            return Ok(word(&self.buffers.piece[..self.filled], at as usize));
        }
        // All but the last piece are whole lines.
        let number = offset / LINE as u32;
        let (line, held) = self.buffers.new.line(number);
        if *held != number {
            *held = NO_LINE;
            self.host.read_new(number * LINE as u32, line).await.map_err(DeltaError::Host)?;
            *held = number;
        }
        Ok(word(line, offset as usize % LINE))
    }
}
