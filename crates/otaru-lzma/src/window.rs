//! The dictionary: a ring of the last bytes ("LZ window" in the specification).

use crate::error::LzmaError;

/// A ring over borrowed memory, which holds the last bytes of the output.
pub(crate) struct Window<'w> {
    ring: &'w mut [u8],
    /// Position of the next byte; as long as the ring when it must start again.
    at: usize,
    /// Position to stop at for now: at the latest at the ring's end.
    stop: usize,
    /// Whether the ring has gone round.
    full: bool,
    /// Number of bytes in all, counted round.
    position: u32,
}

impl<'w> Window<'w> {
    /// An empty one.
    pub(crate) fn new(ring: &'w mut [u8]) -> Self {
        Self { ring, at: 0, stop: 0, full: false, position: 0 }
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.at = 0;
        self.stop = 0;
        self.full = false;
        self.position = 0;
    }

    /// Makes room for up to `most` bytes, at the start where the end is reached. Tells where the next byte will be.
    pub(crate) fn turn(&mut self, most: usize) -> usize {
        if self.at == self.ring.len() {
            self.at = 0;
            self.full = true;
        }
        self.stop = self.at + most.min(self.ring.len() - self.at);
        self.at
    }

    /// Number of bytes that go in before it must be turned.
    pub(crate) fn room(&self) -> usize {
        self.stop - self.at
    }

    /// Number of bytes in all, counted round.
    pub(crate) fn position(&self) -> u32 {
        self.position
    }

    /// Returns the bytes put in since the next byte was to be here, unless it was turned.
    pub(crate) fn since(&self, start: usize) -> &[u8] {
        &self.ring[start..self.at]
    }

    /// Adds a byte; there must be room.
    pub(crate) fn push(&mut self, byte: u8) {
        self.ring[self.at] = byte;
        self.at += 1;
        self.position = self.position.wrapping_add(1);
    }

    /// The byte so far back, 0 being the last; zero where there is none.
    pub(crate) fn back(&self, distance: u32) -> u8 {
        self.source(distance).map_or(0, |from| self.ring[from])
    }

    /// Whether there is a byte so far back.
    ///
    /// # Errors
    /// Returns [`LzmaError::Distance`] if there is none.
    pub(crate) fn check(&self, distance: u32) -> Result<(), LzmaError> {
        self.source(distance).map(|_| ()).ok_or(LzmaError::Distance)
    }

    /// Repeats up to `length` bytes from so far back, as many as there is room for. Tells how many.
    pub(crate) fn repeat(&mut self, distance: u32, length: usize) -> usize {
        let Some(mut from) = self.source(distance) else { return 0 };
        let count = length.min(self.room());
        for to in self.at..self.at + count {
            self.ring[to] = self.ring[from];
            from += 1;
            if from == self.ring.len() {
                from = 0;
            }
        }
        self.at += count;
        self.position = self.position.wrapping_add(count as u32);
        count
    }

    fn source(&self, distance: u32) -> Option<usize> {
        let back = usize::try_from(distance).ok()?.checked_add(1)?;
        if back <= self.at {
            Some(self.at - back)
        } else if self.full && back <= self.ring.len() {
            Some(self.at + self.ring.len() - back)
        } else {
            None
        }
    }
}
