//! Why a download attempt ended.

use core::fmt;
use core::time::Duration;

use otaru_format::status::Code;
use otaru_format::url::UrlError;

use crate::dial::DialError;
use crate::tls::TlsError;

/// Why a download attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub(crate) enum FetchError {
    /// The server's name has no address.
    Dns,
    /// No connection.
    Connect,
    /// No connection, or no answer, in time.
    Timeout,
    /// The body stopped, or arrives too slowly.
    Stalled,
    /// The body ended early.
    Truncated,
    /// The file at the URL ends before the image does.
    ShortFile,
    /// The server answered with an error.
    HttpStatus {
        /// The status code.
        status: u16,
        /// Pause that the server asks for, in seconds.
        retry_after: Option<u32>,
    },
    /// Redirected too often.
    TooManyRedirects,
    /// The URL cannot be fetched.
    BadUrl(UrlError),
    /// The server redirects to a URL that cannot be fetched.
    BadRedirect(UrlError),
    /// TLS failed.
    Tls(TlsError),
    /// The server redirects from `https://` to `http://`, and nothing vouches for what comes.
    InsecureRedirect,
    /// The host is not on the list.
    HostNotAllowed {
        /// The server led there.
        is_redirected: bool,
    },
    /// The body is compressed although that was ruled out.
    Compressed,
    /// The file is another one now, or may be: nothing that was read of it counts any more. Reading starts over.
    StartOver,
    /// The file changes again and again while it is downloaded.
    ContentChanged,
    /// The answer breaks HTTP, or does not belong to the request.
    BadResponse,
    /// The answer's headers are longer than the buffer.
    HeadersTooLong,
}

impl FetchError {
    /// Returns whether another attempt may go better.
    pub(crate) const fn is_transient(&self) -> bool {
        match self {
            Self::Dns
            | Self::Connect
            | Self::Timeout
            | Self::Stalled
            | Self::Truncated
            | Self::BadResponse => true,
            Self::HttpStatus { status, .. } => {
                // What is no status code counts as the server's error (RFC 9110 section 15).
                matches!(status, ..100 | 408 | 421 | 425 | 429 | 500..)
            }
            Self::Tls(error) => error.is_transient(),
            _ => false,
        }
    }

    /// Returns whether what was asked for is at fault.
    pub(crate) const fn is_refusal(&self) -> bool {
        matches!(self, Self::BadUrl(_) | Self::HostNotAllowed { is_redirected: false })
    }

    /// Returns how long the server asked to wait.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::HttpStatus { retry_after, .. } => {
                retry_after.map(|seconds| Duration::from_secs(seconds.into()))
            }
            _ => None,
        }
    }

    /// Returns the code for reports.
    pub(crate) const fn code(&self) -> Code {
        match self {
            Self::Dns => Code::Dns,
            Self::Connect => Code::Connect,
            Self::Timeout => Code::Timeout,
            Self::Stalled => Code::Stalled,
            Self::Truncated | Self::ShortFile => Code::Truncated,
            Self::HttpStatus { .. } => Code::HttpStatus,
            Self::TooManyRedirects => Code::TooManyRedirects,
            Self::Tls(error) => error.code(),
            Self::InsecureRedirect => Code::InsecureRedirect,
            Self::BadUrl(UrlError::Scheme | UrlError::Https)
            | Self::BadRedirect(UrlError::Scheme | UrlError::Https) => Code::UnsupportedUrl,
            Self::BadUrl(_) => Code::BadCommand,
            Self::HostNotAllowed { .. } => Code::HostNotAllowed,
            Self::Compressed => Code::Compressed,
            Self::StartOver | Self::ContentChanged => Code::ContentChanged,
            Self::BadResponse | Self::HeadersTooLong | Self::BadRedirect(_) => Code::BadResponse,
        }
    }
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns => f.write_str("the server's name has no address"),
            Self::Connect => f.write_str("no connection, or it broke before an answer"),
            Self::Timeout => f.write_str("the server does not answer in time"),
            Self::Stalled => f.write_str("the download stalled"),
            Self::Truncated => f.write_str("the download ended early"),
            Self::ShortFile => f.write_str("the file at the URL ends before the image does; upload it again"),
            // Numbers of 32 bits are printed elsewhere, too.
            Self::HttpStatus { status, .. } => write!(f, "the server answered {}", u32::from(*status)),
            Self::TooManyRedirects => f.write_str("the server redirects without end"),
            Self::Tls(error) => error.fmt(f),
            Self::InsecureRedirect => f.write_str(
                "the server redirects from https:// to http://, and the firmware is neither signed nor offered by its digest",
            ),
            Self::BadUrl(why) => write!(f, "a URL {}", why.as_str()),
            Self::BadRedirect(why) => write!(f, "the server redirects to a URL {}", why.as_str()),
            Self::HostNotAllowed { is_redirected } => {
                f.write_str(if *is_redirected {
                    "the server redirects to a host that"
                } else {
                    "the URL's host"
                })?;
                f.write_str(" is not on this device's list of hosts")
            }
            Self::Compressed => {
                f.write_str("the server or a proxy compresses the firmware; turn that off for it")
            }
            Self::StartOver | Self::ContentChanged => {
                f.write_str("the file at the URL changes during the download")
            }
            Self::BadResponse => f.write_str("the server's answer breaks HTTP"),
            Self::HeadersTooLong => f.write_str("the server's headers are too long"),
        }
    }
}

impl core::error::Error for FetchError {}

impl From<DialError> for FetchError {
    fn from(error: DialError) -> Self {
        match error {
            DialError::Dns => Self::Dns,
            DialError::Connect => Self::Connect,
            DialError::Timeout => Self::Timeout,
            DialError::Tls(error) => Self::Tls(error),
        }
    }
}
