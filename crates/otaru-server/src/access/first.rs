//! The first admin token: made when the server has none that is good, shown once.
//!
//! A token that was made and never shown would lock everybody out. So one that is made is noted as unseen until whoever started the
//! server says that it was shown; the next start ends an unseen one that nobody has used, and makes another.

use otaru_api::{NewToken, Role};
use otaru_rollout::Time;
use serde_json::json;

use super::audit;
use super::tokens::{self, NewTokenError};
use crate::app::Shared;
use crate::cluster::leases;
use crate::db::{Connection, DbError, OptionalExtension as _};
use otaru_broker::client::Secret;

/// The row of `meta` with the id of a token that may never have been shown.
const UNSEEN: &str = "unseen_token";

/// A token that is to be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct First {
    /// The token itself.
    pub(crate) text: Secret,
    /// Whether it takes the place of one that was made by an earlier start, and maybe never shown.
    pub(crate) again: bool,
}

/// Makes an admin token if there is none that is good and seen; gives it back, this once. To be called when nothing can keep the server
/// from starting any more.
///
/// Whoever can start the server can read and change everything it keeps, so this gives nobody more than they have.
///
/// # Errors
/// When the system has no randomness.
pub async fn make(app: &Shared) -> Result<Option<First>, NewTokenError> {
    let (now, shared) = (app.clock.now(), app.holdings.id().is_some());
    let made = app.db.write(move |tx| {
        // Another server of the same database may be just about to show the one that it made.
        if shared && leases::members(tx)?.len() > 1 && tokens::any_admin(tx, now)? {
            return Ok(None);
        }
        let again = end_unseen(tx, now)?;
        if tokens::any_admin(tx, now)? {
            return Ok(None);
        }
        let new = NewToken { name: "first".into(), role: Role::Admin, expires_at: None };
        let (token, text) = tokens::create(tx, new, "server", now)?;
        let sql = "INSERT INTO meta (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = ?2";
        tx.execute(sql, [UNSEEN, &token.id])?;
        audit::note_server(tx, "token.create", &format!("token/{}", token.id), &json!({}), now)?;
        Ok::<_, NewTokenError>(Some(First { text: Secret::new(text), again }))
    });
    made.await
}

/// Ends the token of an earlier start that nobody was shown; says whether there was one. One that was used was seen.
fn end_unseen(tx: &Connection, now: Time) -> Result<bool, DbError> {
    let sql = "SELECT t.id FROM meta m JOIN tokens t ON t.id = m.value
               WHERE m.key = ? AND t.used_at IS NULL AND t.revoked_at IS NULL";
    let unseen: Option<String> = tx.query_row(sql, [UNSEEN], |row| row.get(0)).optional()?;
    forget_unseen(tx)?;
    let Some(id) = unseen else { return Ok(false) };
    tokens::revoke(tx, &id, now)?;
    audit::note_server(tx, "token.revoke", &format!("token/{id}"), &json!({"never_shown": true}), now)?;
    Ok(true)
}

fn forget_unseen(tx: &Connection) -> Result<(), DbError> {
    tx.execute("DELETE FROM meta WHERE key = ?", [UNSEEN])?;
    Ok(())
}

/// Notes that the token was shown.
pub async fn was_shown(app: &Shared) -> Result<(), DbError> {
    app.db.write(forget_unseen).await
}
