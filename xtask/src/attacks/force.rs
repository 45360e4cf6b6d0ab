//! Size of an attack.

/// Size of an attack.
pub(super) struct Force {
    /// Figures, in words.
    pub(super) words: String,
    /// Names that were made up and registered.
    pub(super) names: u64,
}

impl From<String> for Force {
    fn from(words: String) -> Self {
        Self { words, names: 0 }
    }
}
