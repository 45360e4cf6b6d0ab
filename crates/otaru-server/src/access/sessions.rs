//! Sessions of the dashboard: a token is shown once, and a cookie stands for it until it is not used for long.
//!
//! A session may do what its token may, and ends with it.

use otaru_format::digest::Digest;
use otaru_rollout::{Span, Time};

use crate::app::Shared;
use crate::caller::Caller;
use crate::db::{Connection, DbError, OptionalExtension as _, params};
use crate::problem::Problem;
use crate::secret;

/// Prefix of the text in a cookie.
const KIND: &str = "session";
/// Lifetime of a session that is not used.
const IDLE: Span = Span::hours(7 * 24);
/// Longest lifetime of a session.
pub const LONGEST: Span = Span::hours(30 * 24);
/// The most sessions of one token; another one ends the one that was not used for longest.
const MOST: i64 = 32;
/// Interval at which its use is recorded.
const NOTE_USE: Span = Span::hours(1);

/// Opens a session for a token; gives back the text for the cookie.
pub fn open(tx: &Connection, token: &str, now: Time) -> Result<String, Problem> {
    let made = secret::make(KIND).map_err(|error| Problem::internal(&error))?;
    let at = now.0.cast_signed();
    tx.execute(
        "DELETE FROM sessions WHERE created_at <= ? OR used_at <= ?",
        params![ended(now, LONGEST), ended(now, IDLE)],
    )?;
    tx.execute(
        "DELETE FROM sessions WHERE hash IN
           (SELECT hash FROM sessions WHERE token = ? ORDER BY used_at DESC, created_at DESC LIMIT 1000000 OFFSET ?)",
        params![token, MOST - 1],
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

/// Returns whose session this is, if it and its token are good.
pub async fn verify(app: &Shared, key: Digest) -> Result<Option<Caller>, DbError> {
    let now = app.clock.now();
    let found = app.db.read(move |tx| {
        let sql = "SELECT token, used_at FROM sessions WHERE hash = ? AND created_at > ? AND used_at > ?";
        let row = tx.prepare(sql);
        let values = params![key.0, ended(now, LONGEST), ended(now, IDLE)];
        row.query_row(values, |row| Ok((row.get::<String>(0)?, row.get::<i64>(1)?))).optional()
    });
    let Some((token, used_at)) = found.await? else { return Ok(None) };
    let caller = app.tokens.caller(&token).await?;
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
        if let Err(error) = noted.await
            && !error.is_outage()
        {
            tracing::warn!(%error, "a session's use was not noted");
        }
    });
}

/// Ends a session.
pub fn close(tx: &Connection, key: Digest) -> Result<(), DbError> {
    tx.execute("DELETE FROM sessions WHERE hash = ?", [key.0])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::Db;

    #[tokio::test]
    async fn a_token_has_so_many_sessions() {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(&dir.path().join("otaru.db")).unwrap();
        let kept = db.write(|tx| {
            for token in ["a", "b"] {
                tx.execute(
                    "INSERT INTO tokens (id, name, role, hash, created_at, created_by)
                     VALUES (?1, ?1, 'viewer', zeroblob(32), 1, 'x')",
                    [token],
                )?;
            }
            let start = Time(1_800_000_000_000);
            let first = open(tx, "a", start)?;
            open(tx, "b", start)?;
            let mut last = String::new();
            for number in 0..2 * MOST.unsigned_abs() {
                last = open(tx, "a", start + Span::seconds(number))?;
            }
            let count = |token: &str| -> Result<i64, DbError> {
                tx.query_row("SELECT count(*) FROM sessions WHERE token = ?", [token], |row| row.get(0))
            };
            let is_there = |text: &str| -> Result<bool, DbError> {
                tx.prepare("SELECT 1 FROM sessions WHERE hash = ?").exists([key(text).map(|key| key.0)])
            };
            Ok::<_, Problem>((count("a")?, count("b")?, is_there(&first)?, is_there(&last)?))
        });
        let kept = kept.await.map_err(|problem| problem.into_details().detail);
        assert_eq!(kept, Ok((MOST, 1, false, true)), "the oldest ended, and others' did not");
    }
}
