//! Predictions, and what is learned from their outcome.

/// The longest prediction, in bytes.
pub(crate) const LONGEST: usize = 8;

/// Bytes that a place is expected to have become.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Prediction {
    /// The expected bytes, `len` of them.
    pub(crate) bytes: [u8; LONGEST],
    /// Number of bytes: 3, 4 or 8.
    pub(crate) len: usize,
    /// Lesson to be learned from what they really are.
    pub(super) lesson: AddressSource,
}

impl Prediction {
    pub(super) fn word(word: u32) -> Self {
        let mut bytes = [0; LONGEST];
        bytes[..4].copy_from_slice(&word.to_le_bytes());
        Self { bytes, len: 4, lesson: AddressSource::Nothing }
    }

    pub(super) fn pair(first: u32, second: u32) -> Self {
        let mut prediction = Self::word(first);
        prediction.bytes[4..].copy_from_slice(&second.to_le_bytes());
        prediction.len = 8;
        prediction
    }

    /// An instruction of three bytes.
    pub(super) fn three(word: u32) -> Self {
        Self { len: 3, ..Self::word(word) }
    }

    pub(super) fn teaching(self, lesson: AddressSource) -> Self {
        Self { lesson, ..self }
    }
}

/// Source of the new address of something outside the old image.
#[derive(Debug, Clone, Copy)]
pub(super) enum AddressSource {
    Nothing,
    /// The word is the address of what was at `old`.
    Word {
        old: u32,
    },
    /// The instruction has the low bits of the address of what was at `old`, expected to be at `expected`.
    Low {
        old: u32,
        expected: u32,
    },
    /// L32R at `at` loads the literal that was at `old`.
    Literal {
        old: u32,
        at: u32,
    },
    /// Two instructions at `at` have its distance.
    Pair {
        old: u32,
        at: u32,
    },
}
