//! Errors of a server: it is away, or refuses, and says why (RFC 9457).

use otaru_api::Problem;
use ureq::Body;
use ureq::http::Response;

/// The server cannot be reached just now, or a proxy says so in its place. It may be there again in a moment.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub(crate) struct Away {
    text: String,
    /// See [`is_passing`](Self::is_passing).
    passing: bool,
}

impl Away {
    /// Somebody was there, and said so or broke off.
    pub(super) fn in_passing(text: String) -> Self {
        Self { text, passing: true }
    }

    /// Nobody was there.
    pub(super) fn lasting(text: String) -> Self {
        Self { text, passing: false }
    }

    /// Whether the same request is worth sending again at once: another server behind the same address may take it.
    pub(crate) fn is_passing(&self) -> bool {
        self.passing
    }
}

/// A refusal by the server, in its words.
#[derive(Debug)]
pub(crate) struct Refused {
    /// The HTTP status.
    pub(crate) status: u16,
    text: String,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Refused {}

/// Reads what the server said, for people: problem details (RFC 9457) if it gave any.
pub(super) fn refusal(response: &mut Response<Body>, server: &str) -> anyhow::Error {
    let status = response.status();
    let text = match problem(response) {
        Some(problem) if status == 401 => {
            format!("{server}: {}; `otaru login {server}` takes another", problem.detail)
        }
        Some(problem) if status == 503 => return Away::in_passing(problem.detail).into(),
        Some(problem) => problem.detail,
        None if status == 413 => format!(
            "a proxy in front of {server} takes no file that large ({status}); raise its limit: client_max_body_size in \
             nginx, request_body max_size in Caddy"
        ),
        None if matches!(status.as_u16(), 502..=504) => {
            let why = format!("a proxy answers for {server} that it cannot reach the server ({status})");
            return Away::in_passing(why).into();
        }
        None => format!("{server} answered {status}; is it an Otaru server?"),
    };
    Refused { status: status.as_u16(), text }.into()
}

/// Reads the problem that an answer tells; `None` where somebody answers in the server's place.
pub(crate) fn problem(response: &mut Response<Body>) -> Option<Problem> {
    let text = response.body_mut().with_config().limit(64 * 1024).read_to_string().ok()?;
    serde_json::from_str(&text).ok()
}
