//! Who is who: API tokens, sessions of the dashboard, fleet keys, devices' own logins, and the audit log.
//!
//! Secrets are random and long, so they are kept as plain SHA-256: guessing one is hopeless however fast the hash is, and a
//! slow hash would only help whoever floods the server with wrong ones.

pub mod audit;
pub mod devices;
pub mod first;
pub mod fleet_keys;
pub mod offline;
pub mod secret;
pub mod sessions;
pub mod tokens;

use crate::problem::Problem;

/// A name as people give it: some text, not too long, without control characters.
///
/// # Errors
/// [`Problem::invalid`] when it is not.
pub fn plain_name(text: &str) -> Result<String, Problem> {
    let text = text.trim();
    if text.is_empty() || text.chars().count() > 100 || text.chars().any(char::is_control) {
        return Err(Problem::invalid("a name has 1 to 100 characters, and no control characters"));
    }
    Ok(text.to_owned())
}
