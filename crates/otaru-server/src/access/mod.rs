//! Who is who: API tokens, sessions of the dashboard, fleet keys, devices' own logins, and the audit log.
//!
//! Secrets are random and long, so they are kept as plain SHA-256: guessing one is hopeless however fast the hash is, and a
//! slow hash would only help whoever floods the server with wrong ones.

pub mod audit;
pub mod devices;
pub mod fleet_keys;
pub mod secret;
pub mod sessions;
pub mod tokens;

use crate::api::caller::Role;
use crate::api::problem::Problem;
use crate::app::Shared;
use crate::db::DbError;

/// Makes an admin token if there is none that is good; gives it back, this once.
///
/// Whoever can start the server can read and change everything it keeps, so this gives nobody more than they have. It is also the
/// way back for somebody who lost the last one.
///
/// # Errors
/// Those of the database.
pub async fn bootstrap(app: &Shared) -> Result<Option<String>, DbError> {
    let now = app.clock.now();
    let made = app
        .db
        .write(move |tx| {
            if tokens::any_admin(tx, now)? {
                return Ok(None);
            }
            let new = tokens::New { name: "first".into(), role: Role::Admin, expires_at: None };
            let (token, text) = tokens::create(tx, new, "server", now)?;
            audit::note_server(tx, "token.create", &format!("token/{}", token.id), now)?;
            Ok::<_, Problem>(Some(text))
        })
        .await;
    made.map_err(|problem| DbError::Corrupt("tokens", problem.detail))
}

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
