//! Callers: people and programs with an API token, and what their roles may do.

use otaru_api::Role;

use crate::problem::Problem;

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
