//! Failures of a bucket, in words that say what to do. Answers of its service are never shown: such answers repeat what they were
//! asked with, tokens of sessions included.

use std::error::Error as StdError;

use object_store::Error;
use object_store::client::{HttpError, HttpErrorKind};

/// Words for a bucket that is not where it was asked for.
const ELSEWHERE: &str =
    "the bucket is in another region, or at another address; correct --s3-region or --s3-endpoint";
/// Longest code of an error that is told.
const LONGEST_CODE: usize = 64;

/// Reason that a bucket did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BucketError {
    /// It cannot be reached, or is too busy; that passes by itself.
    #[error("the bucket is away: {0}")]
    Away(String),
    /// It refuses, until somebody changes something.
    #[error("the bucket refuses: {0}")]
    Refused(String),
    /// There is no such object.
    #[error("there is no such object in the bucket")]
    Missing,
    /// It goes on longer than somebody waits.
    #[error("a file is still being fetched from the bucket; try again")]
    Slow,
    /// There is no room for a copy.
    #[error("all room for copies of the bucket's files is in use; try again, or give more with --cache-size")]
    NoRoom,
    /// An object is larger than any file of ours.
    #[error("an object in the bucket has {0} bytes, which no firmware has")]
    TooLarge(u64),
    /// The database of another server keeps its files there.
    #[error(
        "another database keeps its firmware at this place of the bucket; give this server another prefix, or it would remove the \
         other's files"
    )]
    NotOurs,
}

impl BucketError {
    /// Reads an error of the library.
    pub(super) fn of(error: &Error) -> Self {
        if let Some(broken) = transport(error) {
            return Self::Away(broken);
        }
        let (text, code) = (error.to_string(), code(error));
        let code = code.as_deref();
        match error {
            Error::NotFound { .. } if code == Some("NoSuchBucket") => {
                Self::Refused("it has no bucket of this name; make it, or correct --artifacts".into())
            }
            Error::NotFound { .. } => Self::Missing,
            Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => Self::Refused(refusal(code)),
            _ => match (status(&text), code) {
                (
                    _,
                    Some(
                        "AuthorizationHeaderMalformed"
                        | "PermanentRedirect"
                        | "IllegalLocationConstraintException",
                    ),
                )
                | (Some(300..=399), _) => Self::Refused(ELSEWHERE.into()),
                _ if text.contains("redirect without LOCATION") => Self::Refused(ELSEWHERE.into()),
                (_, Some("ExpiredToken" | "InvalidToken")) => Self::Refused(refusal(code)),
                (Some(status), Some(code)) => Self::Away(format!("it answered {status} {code}")),
                (Some(status), None) => Self::Away(format!("it answered {status}")),
                (None, _) => Self::Away("its answer makes no sense".into()),
            },
        }
    }
}

/// Says what a refusal means.
fn refusal(code: Option<&str>) -> String {
    let means = match code {
        Some("InvalidAccessKeyId") => "it does not know the access key; correct the credentials",
        Some("SignatureDoesNotMatch") => {
            "the secret key does not belong to the access key, or the region is another; correct the credentials or --s3-region"
        }
        Some("ExpiredToken" | "InvalidToken") => {
            "the token of the session has ended; start the server with new credentials"
        }
        Some("RequestTimeTooSkewed") => "its clock and that of this machine differ; set the clock",
        _ => {
            "the credentials may not do this; they need s3:GetObject, s3:PutObject, s3:DeleteObject, s3:AbortMultipartUpload and \
             s3:ListBucket there"
        }
    };
    match code {
        Some(code) => format!("{code}: {means}"),
        None => means.to_owned(),
    }
}

/// Returns the words of a connection that failed, which are our own.
fn transport(error: &Error) -> Option<String> {
    let mut next: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(http) = error.downcast_ref::<HttpError>() {
            let source = http.source().map(ToString::to_string).unwrap_or_default();
            return Some(match http.kind() {
                HttpErrorKind::Decode => "its answer makes no sense".into(),
                _ => source,
            });
        }
        next = error.source();
    }
    None
}

/// Returns the code in an answer, such as `SlowDown`.
fn code(error: &Error) -> Option<String> {
    let text = error.to_string();
    let (_, rest) = text.split_once("<Code>")?;
    let (code, _) = rest.split_once("</Code>")?;
    let plain = code.len() <= LONGEST_CODE && code.bytes().all(|byte| byte.is_ascii_alphanumeric());
    plain.then(|| code.to_owned())
}

/// Returns the status of an answer.
fn status(text: &str) -> Option<u16> {
    let (_, rest) = text.split_once("status code: ")?;
    rest.get(..3)?.parse().ok()
}
