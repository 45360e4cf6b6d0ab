//! The three numbers an LZMA stream is made with.

/// Context that a stream's statistics depend on; the specification's `lc`, `lp` and `pb`.
///
/// A stream does not say what it was made with. Other numbers decode it to something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Properties {
    /// Number of high bits of the byte before that select a literal's statistics: at most 8.
    pub literal_context_bits: u8,
    /// Number of low bits of the position that select a literal's statistics: at most 4.
    pub literal_position_bits: u8,
    /// Number of low bits of the position that select a match's statistics: at most 4.
    pub position_bits: u8,
}

impl Properties {
    /// Properties of a release's frames, all zero: least RAM, and hardly worse for the instructions of these chips.
    pub const RELEASE: Self = Self { literal_context_bits: 0, literal_position_bits: 0, position_bits: 0 };

    /// Whether there can be such a stream.
    pub(crate) const fn valid(self) -> bool {
        self.literal_context_bits <= 8 && self.literal_position_bits <= 4 && self.position_bits <= 4
    }

    /// Number of sets of literal statistics.
    pub(crate) const fn contexts(self) -> usize {
        1 << (self.literal_context_bits + self.literal_position_bits)
    }

    /// Number of sets of match statistics.
    pub(crate) const fn positions(self) -> usize {
        1 << self.position_bits
    }

    /// Selects the literal statistics to use ("Decoding of Literals").
    pub(crate) const fn context(self, position: u32, previous: u8) -> usize {
        let low = position as usize & ((1 << self.literal_position_bits) - 1);
        let high = previous as usize >> (8 - self.literal_context_bits);
        (low << self.literal_context_bits) | high
    }

    /// Selects the match statistics to use.
    pub(crate) const fn position(self, position: u32) -> usize {
        position as usize & (self.positions() - 1)
    }
}
