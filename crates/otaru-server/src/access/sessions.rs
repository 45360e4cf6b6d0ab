//! Sessions of the dashboard: a token is shown once, and a cookie stands for it until it is not used for long.
//!
//! A session may do what its token may, and ends with it.

use otaru_format::digest::Digest;
use otaru_rollout::{Span, Time};
use rusqlite::{Connection, OptionalExtension as _, params};

use super::{secret, tokens};
use crate::api::caller::Caller;
use crate::api::problem::Problem;
use crate::app::Shared;
use crate::db::DbError;

/// How the text in a cookie begins.
const KIND: &str = "session";
/// How long a session lasts that is not used.
const IDLE: Span = Span::hours(7 * 24);
/// How long it lasts at all.
pub const LONGEST: Span = Span::hours(30 * 24);
/// How often its use is written down.
const NOTE_USE: Span = Span::hours(1);

/// Opens a session for a token; gives back the text for the cookie.
///
/// # Errors
/// Those of the database.
pub fn open(tx: &Connection, token: &str, now: Time) -> Result<String, Problem> {
    let made = secret::make(KIND).map_err(|error| Problem::internal(&error))?;
    let at = now.0.cast_signed();
    tx.execute(
        "DELETE FROM sessions WHERE created_at <= ? OR used_at <= ?",
        params![ended(now, LONGEST), ended(now, IDLE)],
    )?;
    tx.execute(
        "INSERT INTO sessions (hash, token, created_at, used_at) VALUES (?1, ?2, ?3, ?3)",
        params![made.hash.0, token, at],
    )?;
    Ok(made.text)
}

fn ended(now: Time, span: Span) -> i64 {
    now.0.saturating_sub(span.0).cast_signed()
}

/// A session's key in the database, from the text in its cookie.
pub fn key(text: &str) -> Option<Digest> {
    secret::parse(KIND, text).map(|parts| parts.hash())
}

/// Whose session this is, if it and its token are good.
///
/// # Errors
/// Those of the database.
pub async fn verify(app: &Shared, key: Digest) -> Result<Option<Caller>, DbError> {
    let now = app.clock.now();
    let found = app.db.read(move |tx| {
        let sql = "SELECT token, used_at FROM sessions WHERE hash = ? AND created_at > ? AND used_at > ?";
        let mut row = tx.prepare_cached(sql)?;
        let values = params![key.0, ended(now, LONGEST), ended(now, IDLE)];
        Ok::<_, DbError>(
            row.query_row(values, |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?))).optional()?,
        )
    });
    let Some((token, used_at)) = found.await? else { return Ok(None) };
    let caller = tokens::caller(app, &token).await?;
    if caller.is_some() && now.since(Time(used_at.unsigned_abs())) >= NOTE_USE {
        note_use(app, key, now);
    }
    Ok(caller)
}

/// Nobody waits for it.
fn note_use(app: &Shared, key: Digest, now: Time) {
    let db = app.db.clone();
    tokio::spawn(async move {
        let noted = db.write(move |tx| {
            tx.execute(
                "UPDATE sessions SET used_at = ? WHERE hash = ?",
                params![now.0.cast_signed(), key.0],
            )?;
            Ok::<_, DbError>(())
        });
        if let Err(error) = noted.await {
            tracing::warn!(%error, "a session's use was not noted");
        }
    });
}

/// Ends a session.
///
/// # Errors
/// Those of the database.
pub fn close(tx: &Connection, key: Digest) -> Result<(), DbError> {
    tx.execute("DELETE FROM sessions WHERE hash = ?", [key.0])?;
    Ok(())
}
