//! Why a stream was refused.

use core::fmt;

/// Why a stream was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LzmaError {
    /// The range coder is in a state that no encoder leaves behind.
    Damaged,
    /// A match begins before the first byte, or further back than the dictionary reaches.
    Distance,
    /// The stream decodes to more than it may.
    TooLong,
    /// Bytes follow the end of the stream.
    Trailing,
    /// The stream ends before its end.
    Truncated,
    /// The workspace is too small for a stream of these properties.
    Workspace,
}

impl fmt::Display for LzmaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Damaged => "the compressed data is damaged; fetch it again",
            Self::Distance => {
                "the compressed data refers to bytes that are not there; fetch it again, or compress it with a \
                 smaller dictionary"
            }
            Self::TooLong => "the compressed data is longer than announced; fetch it again",
            Self::Trailing => "something follows the compressed data; check the lengths of its frames",
            Self::Truncated => "the compressed data ends too early; fetch the rest",
            Self::Workspace => "the decoder's workspace is too small; give it more contexts or positions",
        })
    }
}

impl core::error::Error for LzmaError {}
