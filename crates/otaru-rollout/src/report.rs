//! Reports of devices, as far as they concern a deployment.

use otaru_format::digest::Digest;
use otaru_format::status::{Code, Fault, Status, UpdateState};
use serde::{Deserialize, Serialize};

/// The part of a [`Status`] that the engine looks at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// State of the device.
    pub state: UpdateState,
    /// The digest of the image it runs.
    pub image: Digest,
    /// Whether that image is confirmed.
    pub confirmed: bool,
    /// The deployment of its last command. A device forgets it when it restarts.
    pub deployment: Option<String>,
    /// Per cent of the download.
    pub progress: Option<u8>,
    /// Trials so far of an image that did not reach the broker; otherwise the how manieth download this is.
    #[serde(default)]
    pub attempt: u8,
    /// The error.
    pub error: Option<Fault<String>>,
    /// The digest of the image that was rolled back; zeros when it could not be read.
    pub rolled_back: Option<Digest>,
}

impl<S: AsRef<str>> From<&Status<S>> for Report {
    fn from(status: &Status<S>) -> Self {
        Self {
            state: status.state,
            image: status.image,
            confirmed: status.confirmed,
            deployment: status.deployment.as_ref().map(|name| name.as_ref().to_owned()),
            progress: status.progress,
            attempt: status.attempt,
            error: status
                .error
                .as_ref()
                .map(|fault| Fault { code: fault.code, detail: fault.detail.as_ref().to_owned() }),
            rolled_back: status.failed.as_ref().map(|failed| failed.image),
        }
    }
}

/// Whether another attempt could end otherwise. What is wrong with the file or the command stays wrong, and what a device has tried
/// several times by itself it need not try more often.
pub fn is_worth_retrying(code: Code) -> bool {
    !matches!(
        code,
        Code::BadCommand
            | Code::UnsupportedUrl
            | Code::WrongChip
            | Code::WrongProduct
            | Code::WrongRevision
            | Code::FlashTooSmall
            | Code::MergedImage
            | Code::NoProduct
            | Code::NoRoom
            | Code::TooLarge
            | Code::NotAnImage
            | Code::FailedBefore
            | Code::Unsigned
            | Code::DigestMismatch
            | Code::ImageCorrupt
            | Code::UnknownKey
            | Code::RevokedKey
            | Code::BadSignature
            | Code::BadRelease
            | Code::Downgrade
            | Code::BaseTooOld
            | Code::SecureVersion
            | Code::BlockCorrupt
            | Code::Crashed
            | Code::Unreachable
    )
}
