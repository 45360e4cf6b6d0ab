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
#[derive(Debug, Clone)]
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
    fn from(error: ReleaseError) -> Self {
        Self::refusal(Code::BadRelease, format_args!("{error}"))
    }
}

impl From<ImageError> for Failure {
    fn from(error: ImageError) -> Self {
        match error {
            ImageError::NotAnImage { .. } | ImageError::TooShort => Self::refusal(
                Code::NotAnImage,
                format_args!("the URL does not lead to ESP32 firmware: {error}"),
            ),
            ImageError::TooLarge { .. } => Self::refusal(Code::TooLarge, format_args!("{error}")),
            _ => Self::new(Code::ImageCorrupt, format_args!("{error}")),
        }
    }
}
