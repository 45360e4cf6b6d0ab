//! Why a patch was not applied.

use core::fmt;

use otaru_lzma::LzmaError;

/// Why bytes are not the header of a patch that can be applied here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum HeaderError {
    /// They do not begin like a patch.
    NotAPatch,
    /// The patch has a version that is not known here.
    Version(u8),
    /// It is made for a chip that is not known here.
    Chip(u8),
    /// The stream has properties that the decoder has no memory for.
    Properties(u8),
    /// It has more anchors than the decoder has memory for.
    Counts,
    /// An image is longer than any flash.
    Lengths,
}

impl fmt::Display for HeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAPatch => f.write_str("this is not a patch"),
            Self::Version(version) => write!(f, "the patch has version {version}, which is not known here"),
            Self::Chip(id) => write!(f, "the patch is for a chip not known here ({id})"),
            Self::Properties(byte) => write!(f, "the patch's stream has bad properties (0x{byte:02x})"),
            Self::Lengths => f.write_str("the patch is for images that no flash has room for"),
            Self::Counts => f.write_str("the patch takes more memory than there is"),
        }
    }
}

impl core::error::Error for HeaderError {}

/// Fault of a patch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PatchError {
    /// The header is bad.
    Header(HeaderError),
    /// It ends too early.
    Truncated,
    /// Something follows its end.
    Trailing,
    /// The compressed stream is bad.
    Stream(LzmaError),
    /// A number in it is out of bounds.
    Number,
    /// The old image is not the one that the patch was made for.
    WrongBase,
    /// It refers to bytes that the old image does not have.
    Reference,
}

impl fmt::Display for PatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(error) => error.fmt(f),
            Self::Truncated => f.write_str("the patch ends too early; fetch the rest"),
            Self::Trailing => f.write_str("something follows the patch; check its length"),
            Self::Stream(error) => error.fmt(f),
            Self::Number => f.write_str("the patch is damaged: a number is out of bounds; fetch it again"),
            Self::WrongBase => f.write_str("the patch was made for another old image"),
            Self::Reference => {
                f.write_str("the patch is damaged: it refers to bytes that are not there; fetch it again")
            }
        }
    }
}

impl core::error::Error for PatchError {}

impl From<HeaderError> for PatchError {
    fn from(error: HeaderError) -> Self {
        Self::Header(error)
    }
}

impl From<LzmaError> for PatchError {
    fn from(error: LzmaError) -> Self {
        Self::Stream(error)
    }
}

/// Why a patch was not applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeltaError<E> {
    /// The patch cannot be applied, to this image or to any.
    Patch(PatchError),
    /// The [`Host`](crate::Host) could not do what it was asked to.
    Host(E),
}

impl<E: fmt::Display> fmt::Display for DeltaError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Patch(error) => error.fmt(f),
            Self::Host(error) => error.fmt(f),
        }
    }
}

impl<E: core::error::Error> core::error::Error for DeltaError<E> {}

impl<E> From<PatchError> for DeltaError<E> {
    fn from(error: PatchError) -> Self {
        Self::Patch(error)
    }
}
