//! Errors of reading and writing release files.

use core::fmt;

/// Why bytes are no good release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum ReleaseError {
    /// It does not begin as a release file does.
    NotARelease,
    /// A layout or manifest format that came after this one.
    NewerLayout {
        /// The layout's number.
        version: u64,
    },
    /// More bytes than a device holds.
    Oversized {
        /// As many as there are, or are announced.
        len: u32,
        /// As many as there may be.
        limit: u32,
    },
    /// It ends early.
    Truncated,
    /// A part that is not as it must be.
    Malformed {
        /// The part, and how it should be.
        what: &'static str,
    },
}

impl fmt::Display for ReleaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotARelease => f.write_str("not a release file; make one with `otaru release`"),
            Self::NewerLayout { version } => {
                write!(f, "a release of layout {version}; this program knows layout 1, so update it first")
            }
            Self::Oversized { len, limit } => {
                write!(f, "the signed part has {len} bytes, {limit} are possible")
            }
            Self::Truncated => f.write_str("the release file ends early; copy or download it again"),
            Self::Malformed { what } => {
                write!(f, "the release is damaged or badly made: {what}")
            }
        }
    }
}

impl core::error::Error for ReleaseError {}

pub(super) const fn malformed(what: &'static str) -> ReleaseError {
    ReleaseError::Malformed { what }
}
