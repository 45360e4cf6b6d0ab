//! Why an update did not happen: the typed reason and the sentence that goes with it.

use core::fmt;

use heapless::String;
use otaru_format::command::CommandError;
use otaru_format::image::ImageError;
use otaru_format::release::ReleaseError;
use otaru_format::status::Code;

use super::unfit::Unfit;
use crate::http::FetchError;
use crate::report::DETAIL;
use crate::slots::SlotError;
use crate::text;
use crate::trust::TrustError;

/// A failure as it is reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) code: Code,
    pub(crate) detail: String<DETAIL>,
    /// Decided before anything was written, because of what was offered.
    pub(crate) refused: bool,
}

impl Failure {
    pub(crate) fn new(code: Code, detail: fmt::Arguments<'_>) -> Self {
        Self { code, detail: text::format(detail), refused: false }
    }

    pub(crate) fn refusal(code: Code, detail: fmt::Arguments<'_>) -> Self {
        Self { refused: true, ..Self::new(code, detail) }
    }
}

impl From<CommandError> for Failure {
    fn from(error: CommandError) -> Self {
        let code = match error {
            CommandError::UnsupportedScheme => Code::UnsupportedUrl,
            _ => Code::BadCommand,
        };
        Self::refusal(code, format_args!("{error}"))
    }
}

/// Why firmware is not taken; [`Plan::failure`](super::plan::Plan::failure) has the sentence. It passes through everything that firmware
/// passes through, so it has no text in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    Unfit(Unfit),
    Distrust(TrustError),
    Image(ImageError),
    /// The release file is damaged or badly made, in this way.
    Release(&'static str),
    Fetch(FetchError),
    TooLarge,
    /// The image is not the one that was offered.
    Mismatch {
        /// It stands in the slot already.
        written: bool,
    },
    FailedBefore,
    RevokesSigner,
    TooManyRevoked,
    Older,
    SequenceTaken,
    GuardsLost,
    BaseTooOld,
    /// The release has nothing that this program can read.
    NoPayload,
    /// A block that is not what the release says.
    Block {
        number: u32,
        count: u32,
    },
    /// The flash failed.
    Flash,
    /// The slot reads back different from what was written.
    ReadBack,
}

impl Reason {
    /// Returns the code for reports, on a device of this product.
    pub(crate) const fn code(self, own: &str) -> Code {
        match self {
            Self::Unfit(unfit) => unfit.code(own),
            Self::Distrust(error) => error.code(),
            Self::Image(ImageError::NotAnImage { .. } | ImageError::TooShort) => Code::NotAnImage,
            Self::TooLarge | Self::Image(ImageError::TooLarge { .. }) => Code::TooLarge,
            Self::Image(_) => Code::ImageCorrupt,
            Self::Fetch(error) => error.code(),
            Self::Mismatch { .. } => Code::DigestMismatch,
            Self::FailedBefore => Code::FailedBefore,
            Self::Release(_) | Self::RevokesSigner | Self::NoPayload => Code::BadRelease,
            Self::TooManyRevoked => Code::NoRoom,
            Self::Older | Self::SequenceTaken | Self::GuardsLost => Code::Downgrade,
            Self::BaseTooOld => Code::BaseTooOld,
            Self::Block { .. } => Code::BlockCorrupt,
            Self::Flash | Self::ReadBack => Code::Flash,
        }
    }

    /// Whether it was decided before anything was written, because of what was offered.
    pub(crate) const fn is_refusal(self) -> bool {
        match self {
            Self::Fetch(error) => error.is_refusal(),
            Self::Image(error) => matches!(
                error,
                ImageError::NotAnImage { .. } | ImageError::TooShort | ImageError::TooLarge { .. }
            ),
            Self::Mismatch { written } => !written,
            Self::Block { .. } | Self::Flash | Self::ReadBack => false,
            _ => true,
        }
    }

    /// Returns the sentence, where it says nothing of this device. It says nothing of a file that is not firmware either: whoever may
    /// send commands could else read files through a device.
    pub(crate) const fn words(self) -> &'static str {
        match self {
            Self::Unfit(Unfit::Merged) => {
                "a whole flash image; offer the application's own .bin, without bootloader and partition table"
            }
            Self::Unfit(Unfit::Broken) => "the image's header is impossible",
            Self::Unfit(_) => "this device does not know its product; set one in its configuration",
            Self::Image(ImageError::NotAnImage { .. } | ImageError::TooShort) => {
                "the URL does not lead to ESP32 firmware but to something else, such as a web page or a directory listing"
            }
            Self::Image(ImageError::Checksum { .. } | ImageError::Digest) => {
                "the image's checksum or SHA-256 does not fit its bytes"
            }
            Self::Image(_) => "the image is damaged, or ends early",
            Self::Mismatch { .. } => "the firmware at the URL is not the image that was offered",
            Self::RevokesSigner => {
                "a release cannot revoke the key that signs it, nor any without a signature"
            }
            Self::TooManyRevoked => "the release revokes more keys than this device has room for",
            Self::NoPayload => "the release has no payload that is of use here; make one with a raw payload",
            Self::ReadBack => "what was written reads back wrong",
            _ => "the flash cannot be read or written",
        }
    }
}

impl From<Unfit> for Reason {
    fn from(unfit: Unfit) -> Self {
        Self::Unfit(unfit)
    }
}

impl From<TrustError> for Reason {
    fn from(error: TrustError) -> Self {
        Self::Distrust(error)
    }
}

impl From<FetchError> for Reason {
    fn from(error: FetchError) -> Self {
        Self::Fetch(error)
    }
}

impl<E> From<SlotError<E>> for Reason {
    fn from(error: SlotError<E>) -> Self {
        match error {
            SlotError::Full => Self::TooLarge,
            _ => Self::Flash,
        }
    }
}

impl From<ImageError> for Reason {
    fn from(error: ImageError) -> Self {
        Self::Image(error)
    }
}

impl From<ReleaseError> for Reason {
    fn from(error: ReleaseError) -> Self {
        Self::Release(match error {
            ReleaseError::Malformed { what } => what,
            ReleaseError::NewerLayout { .. } => {
                "its layout is newer than this firmware, so update that first"
            }
            ReleaseError::Oversized { .. } => "its signed part is too long",
            ReleaseError::NotARelease => "it does not begin as releases do",
            _ => "it ends early",
        })
    }
}
