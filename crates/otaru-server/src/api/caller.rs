//! Who calls: an API token, its role, and what that role may do.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use serde::{Deserialize, Serialize};

use super::problem::Problem;
use crate::app::Shared;

/// What a token may do; each may do what those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// See everything but secrets.
    Viewer,
    /// Also change devices, upload releases and run rollouts.
    Operator,
    /// Also tokens, fleet keys and device credentials.
    Admin,
}

impl Role {
    /// Its name, the same as in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// A caller whose token is good. As an extractor it lets nobody else in.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The token's id; nothing secret.
    pub token: String,
    /// What its owner called it: for the audit log.
    pub name: String,
    /// What it may do.
    pub role: Role,
}

impl Caller {
    /// Goes on only if the caller may do at least what `role` may.
    ///
    /// # Errors
    /// [`Problem::forbidden`].
    pub fn require(&self, role: Role) -> Result<(), Problem> {
        if self.role >= role { Ok(()) } else { Err(Problem::forbidden(role)) }
    }
}

impl FromRequestParts<Shared> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(_parts: &mut Parts, _app: &Shared) -> Result<Self, Problem> {
        Err(Problem::unauthorized())
    }
}
