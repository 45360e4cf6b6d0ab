//! Callers: people and programs with an API token, and what their roles may do.

use serde::{Deserialize, Serialize};

use crate::problem::Problem;

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
    /// The role of this name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Viewer, Self::Operator, Self::Admin].into_iter().find(|role| role.as_str() == name)
    }

    /// Returns the name, the same as in JSON.
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

/// A caller whose token is good.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The token's id; nothing secret.
    pub token: String,
    /// Name that its owner gave it: for the audit log.
    pub name: String,
    /// The role.
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
