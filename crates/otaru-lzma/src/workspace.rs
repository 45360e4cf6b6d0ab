//! The decoder's memory.

use crate::range::{EVEN, Probability};

/// The dictionary of a release's frames, in bytes.
pub const RELEASE_DICTIONARY: usize = 16 * 1024;

/// Number of states that the last few symbols lead to.
pub(crate) const STATES: usize = 12;

/// The statistics of a literal: of its bits alone, and of its bits where they agree and disagree with the byte
/// that the last distance leads to.
pub(crate) type Literal = [Probability; 0x300];

/// Memory for one [`Decoder`](crate::Decoder) at a time: the dictionary and what has been learned of the stream.
///
/// The default is what a release's frames need. Streams with other properties need `1 << (lc + lp)` CONTEXTS and
/// `1 << pb` POSITIONS. It can be a `static`, and may be used for one stream after another.
pub struct Workspace<
    const DICTIONARY: usize = RELEASE_DICTIONARY,
    const CONTEXTS: usize = 1,
    const POSITIONS: usize = 1,
> {
    pub(crate) dictionary: [u8; DICTIONARY],
    pub(crate) literals: [Literal; CONTEXTS],
    pub(crate) positions: [Position; POSITIONS],
    pub(crate) model: Model,
}

impl<const DICTIONARY: usize, const CONTEXTS: usize, const POSITIONS: usize>
    Workspace<DICTIONARY, CONTEXTS, POSITIONS>
{
    const SOUND: () = assert!(
        DICTIONARY > 0 && CONTEXTS > 0 && POSITIONS > 0,
        "a workspace needs at least a byte of dictionary, a context and a position"
    );

    /// An empty one; all zeros, so that a `static` takes no room in an image.
    pub const fn new() -> Self {
        let () = Self::SOUND;
        Self {
            dictionary: [0; DICTIONARY],
            literals: [[0; 0x300]; CONTEXTS],
            positions: [Position::ZERO; POSITIONS],
            model: Model::ZERO,
        }
    }
}

impl<const DICTIONARY: usize, const CONTEXTS: usize, const POSITIONS: usize> Default
    for Workspace<DICTIONARY, CONTEXTS, POSITIONS>
{
    fn default() -> Self {
        Self::new()
    }
}

/// Probabilities learned for each position.
pub(crate) struct Position {
    pub(crate) is_match: [Probability; STATES],
    pub(crate) is_long: [Probability; STATES],
    /// The short lengths of new and of repeated distances.
    pub(crate) lengths: [ShortLengths; 2],
}

impl Position {
    const ZERO: Self = Self {
        is_match: [0; STATES],
        is_long: [0; STATES],
        lengths: [ShortLengths::ZERO, ShortLengths::ZERO],
    };

    /// Forgets all.
    pub(crate) fn reset(&mut self) {
        for statistics in [&mut self.is_match, &mut self.is_long] {
            statistics.fill(EVEN);
        }
        for ShortLengths { low, middle } in &mut self.lengths {
            low.fill(EVEN);
            middle.fill(EVEN);
        }
    }
}

/// The statistics of lengths 2 to 9 and 10 to 17.
pub(crate) struct ShortLengths {
    pub(crate) low: [Probability; 8],
    pub(crate) middle: [Probability; 8],
}

impl ShortLengths {
    const ZERO: Self = Self { low: [0; 8], middle: [0; 8] };
}

/// The statistics of lengths from 18 on, and of how long a length is.
pub(crate) struct LongLengths {
    pub(crate) beyond_low: Probability,
    pub(crate) beyond_middle: Probability,
    pub(crate) high: [Probability; 256],
}

impl LongLengths {
    const ZERO: Self = Self { beyond_low: 0, beyond_middle: 0, high: [0; 256] };
}

/// Probabilities learned once for all positions.
pub(crate) struct Model {
    pub(crate) is_repeated: [Probability; STATES],
    pub(crate) not_rep0: [Probability; STATES],
    pub(crate) not_rep1: [Probability; STATES],
    pub(crate) not_rep2: [Probability; STATES],
    /// The long lengths of new and of repeated distances.
    pub(crate) lengths: [LongLengths; 2],
    /// A distance's magnitude, for lengths 2, 3, 4 and more.
    pub(crate) slots: [[Probability; 64]; 4],
    /// The lower bits of distances up to 128, one magnitude after the other.
    pub(crate) near: [Probability; 114],
    /// The lowest four bits of greater distances.
    pub(crate) align: [Probability; 15],
}

impl Model {
    const ZERO: Self = Self {
        is_repeated: [0; STATES],
        not_rep0: [0; STATES],
        not_rep1: [0; STATES],
        not_rep2: [0; STATES],
        lengths: [LongLengths::ZERO, LongLengths::ZERO],
        slots: [[0; 64]; 4],
        near: [0; 114],
        align: [0; 15],
    };

    /// Forgets all.
    pub(crate) fn reset(&mut self) {
        let Self { is_repeated, not_rep0, not_rep1, not_rep2, lengths, slots, near, align } = self;
        for statistics in [is_repeated, not_rep0, not_rep1, not_rep2] {
            statistics.fill(EVEN);
        }
        for LongLengths { beyond_low, beyond_middle, high } in lengths {
            (*beyond_low, *beyond_middle) = (EVEN, EVEN);
            high.fill(EVEN);
        }
        for slot in slots {
            slot.fill(EVEN);
        }
        near.fill(EVEN);
        align.fill(EVEN);
    }
}
