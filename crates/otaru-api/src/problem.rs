//! Errors: problem details (RFC 9457).

use serde::{Deserialize, Serialize};

/// Kinds of problems begin with this.
const KINDS: &str = "urn:otaru:problem:";

/// An error that a caller can act on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Problem {
    /// Kind of problem; programs go by it: `urn:otaru:problem:not-found`.
    #[serde(rename = "type", default)]
    pub kind: String,
    /// The kind in words.
    #[serde(default)]
    pub title: String,
    /// HTTP status.
    #[serde(default)]
    pub status: u16,
    /// Sentence that says what is wrong this time, and what to do.
    pub detail: String,
}

impl Problem {
    /// Makes a problem of this kind, a few words with dashes between.
    pub fn new(status: u16, kind: &str, detail: impl Into<String>) -> Self {
        let (title, kind) = (kind.replace('-', " "), format!("{KINDS}{kind}"));
        Self { kind, title, status, detail: detail.into() }
    }

    /// Tells whether it is of this kind.
    pub fn is(&self, kind: &str) -> bool {
        self.kind.strip_prefix(KINDS) == Some(kind)
    }
}
