//! Why an update did not happen: the typed reason and the sentence that goes with it.

use core::fmt;

use heapless::String;
use otaru_format::command::CommandError;
use otaru_format::image::ImageError;
use otaru_format::release::ReleaseError;
use otaru_format::status::Code;

use crate::report::DETAIL;
use crate::text;

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

impl From<ReleaseError> for Failure {
    /// Says nothing of the file but what is wrong with it: whoever may send commands could else read files through a device.
    fn from(error: ReleaseError) -> Self {
        let what = match error {
            ReleaseError::Malformed { what } => what,
            ReleaseError::NewerLayout { .. } => {
                "its layout is newer than this firmware, so update that first"
            }
            ReleaseError::Oversized { .. } => "its signed part is too long",
            ReleaseError::NotARelease => "it does not begin as releases do",
            _ => "it ends early",
        };
        Self::refusal(Code::BadRelease, format_args!("the release is damaged or badly made: {what}"))
    }
}

impl From<ImageError> for Failure {
    /// Says nothing of the file, as above.
    fn from(error: ImageError) -> Self {
        match error {
            ImageError::NotAnImage { .. } | ImageError::TooShort => Self::refusal(
                Code::NotAnImage,
                format_args!(
                    "the URL does not lead to ESP32 firmware but to something else, such as a web page or a directory listing"
                ),
            ),
            ImageError::TooLarge { limit } => Self::refusal(
                Code::TooLarge,
                format_args!("the firmware does not fit the slot of {limit} bytes"),
            ),
            ImageError::Checksum { .. } | ImageError::Digest => Self::new(
                Code::ImageCorrupt,
                format_args!("the image's checksum or SHA-256 does not fit its bytes"),
            ),
            _ => Self::new(Code::ImageCorrupt, format_args!("the image is damaged, or ends early")),
        }
    }
}
