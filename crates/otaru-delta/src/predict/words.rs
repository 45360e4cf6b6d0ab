//! Bytes and words of the images, as far as a prediction may look at them.

/// Number of bytes of the old image that a prediction looks at, zeros beyond its end.
pub(crate) const LOOKAHEAD: usize = 64;

/// The bytes from a place on, as far as a prediction may look at them.
pub(crate) type Window = [u8; LOOKAHEAD];

/// Words at random places of the images.
pub(crate) trait Words {
    /// Why one cannot be read.
    type Error;

    /// The word at this offset of the old image; `None` if it is not aligned, or reaches beyond the end.
    async fn old_word(&mut self, offset: u32) -> Result<Option<u32>, Self::Error>;

    /// The word at this offset of the new image; `None` if it is not aligned, or not written yet.
    async fn new_word(&mut self, offset: u32) -> Result<Option<u32>, Self::Error>;
}

/// A place that is copied.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spot {
    /// Offset in the old image.
    pub(super) offset: u32,
    /// Old address.
    pub(super) old: u32,
    /// New address.
    pub(super) new: u32,
    /// Number of bytes copied from here on.
    pub(super) left: u32,
}

impl Spot {
    /// Whether a word may begin here.
    pub(super) const fn is_aligned(&self) -> bool {
        self.old.is_multiple_of(4) && self.new.is_multiple_of(4) && self.left >= 4
    }
}

/// The bytes of a window as a word.
pub(super) fn word_at(window: &Window, at: usize) -> u32 {
    window.get(at..).and_then(|bytes| bytes.first_chunk()).map_or(0, |bytes| u32::from_le_bytes(*bytes))
}
