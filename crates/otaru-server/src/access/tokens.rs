//! API tokens: `otaru_<id>_<secret>`.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use otaru_format::digest::Digest;
use otaru_rollout::{Span, Time};
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use serde::{Deserialize, Serialize};

use super::secret;
use crate::app::Shared;
use crate::caller::{Caller, Role};
use crate::db::DbError;
use crate::problem::Problem;
use crate::timestamp::Timestamp;

/// How tokens begin.
const KIND: &str = "otaru";
/// How long a token that was looked up is believed without looking again.
const FRESH: Span = Span::seconds(10);
/// How often a token's last use is written down.
const NOTE_USE: Span = Span::minutes(1);
/// The most tokens that are remembered.
const REMEMBERED: usize = 10_000;

/// A token, without its secret.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct Token {
    /// Its id.
    pub id: String,
    /// What it is for, in its owner's words.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// When it was made.
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: String,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
    /// When it was last used, to the minute.
    pub used_at: Option<Timestamp>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
}

/// What a new token shall be.
#[derive(Debug, Clone, Deserialize, Serialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = CreateToken)]
pub struct New {
    /// What it is for
    #[schema(min_length = 1, max_length = 100)]
    pub name: String,
    /// What it may do
    pub role: Role,
    /// When it ends; without, it is good until it is revoked
    pub expires_at: Option<Timestamp>,
}

/// Makes a token; gives back the text that is shown once.
///
/// # Errors
/// Those of the database.
pub fn create(tx: &Connection, new: New, by: &str, now: Time) -> Result<(Token, String), Problem> {
    let name = super::plain_name(&new.name)?;
    let made = secret::make(KIND).map_err(|error| Problem::internal(&error))?;
    tx.execute(
        "INSERT INTO tokens (id, name, role, hash, created_at, created_by, expires_at) VALUES (?, ?, ?, ?, ?, ?, ?)",
        params![made.id, name, new.role.as_str(), made.hash.0, now.0.cast_signed(), by, new.expires_at],
    )?;
    let token = Token {
        id: made.id,
        name,
        role: new.role,
        created_at: now.into(),
        created_by: by.to_owned(),
        expires_at: new.expires_at,
        used_at: None,
        revoked_at: None,
    };
    Ok((token, made.text))
}

const COLUMNS: &str = "id, name, role, created_at, created_by, expires_at, used_at, revoked_at";

fn token(row: &Row<'_>) -> rusqlite::Result<Token> {
    let role: String = row.get(2)?;
    Ok(Token {
        id: row.get(0)?,
        name: row.get(1)?,
        role: Role::parse(&role).unwrap_or(Role::Viewer),
        created_at: row.get(3)?,
        created_by: row.get(4)?,
        expires_at: row.get(5)?,
        used_at: row.get(6)?,
        revoked_at: row.get(7)?,
    })
}

/// All tokens, newest first.
///
/// # Errors
/// Those of the database.
pub fn list(tx: &Connection) -> Result<Vec<Token>, DbError> {
    let mut rows = tx.prepare(&format!("SELECT {COLUMNS} FROM tokens ORDER BY created_at DESC, id"))?;
    Ok(rows.query_map([], token)?.collect::<Result<_, _>>()?)
}

/// Ends a token. Says whether there was one that was good.
///
/// # Errors
/// Those of the database.
pub fn revoke(tx: &Connection, id: &str, now: Time) -> Result<bool, DbError> {
    let sql = "UPDATE tokens SET revoked_at = ? WHERE id = ? AND revoked_at IS NULL";
    Ok(tx.execute(sql, params![now.0.cast_signed(), id])? > 0)
}

/// Whether an admin can still get in.
///
/// # Errors
/// Those of the database.
pub fn any_admin(tx: &Connection, now: Time) -> Result<bool, DbError> {
    let sql = "SELECT EXISTS (SELECT 1 FROM tokens WHERE role = 'admin' AND revoked_at IS NULL
                              AND (expires_at IS NULL OR expires_at > ?))";
    Ok(tx.query_row(sql, [now.0.cast_signed()], |row| row.get(0))?)
}

/// The first admin token that is good, as a caller.
///
/// # Errors
/// Those of the database.
pub fn first_admin(tx: &Connection, now: Time) -> Result<Option<Caller>, DbError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM tokens WHERE role = 'admin' AND revoked_at IS NULL
           AND (expires_at IS NULL OR expires_at > ?) ORDER BY created_at, id LIMIT 1"
    );
    let found = tx.query_row(&sql, [now.0.cast_signed()], token).optional()?;
    Ok(found.map(|token| Caller { token: token.id, name: token.name, role: token.role }))
}

/// Tokens that were looked up not long ago, so that requests do not cost a read each.
#[derive(Debug, Default)]
pub struct Remembered(Mutex<HashMap<String, Known>>);

#[derive(Debug, Clone)]
struct Known {
    hash: Digest,
    caller: Caller,
    expires_at: Option<Timestamp>,
    revoked_at: Option<Timestamp>,
    looked_up: Time,
    noted: Option<Time>,
}

impl Known {
    fn refusal(&self, now: Time) -> Option<Refusal> {
        match (self.revoked_at, self.expires_at) {
            (Some(at), _) => Some(Refusal::Revoked(at)),
            (None, Some(end)) if end <= now.into() => Some(Refusal::Expired(end)),
            _ => None,
        }
    }
}

impl Remembered {
    /// Forgets a token, so that its end counts at once.
    pub fn forget(&self, id: &str) {
        self.lock().remove(id);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, id: &str, now: Time) -> Option<Known> {
        let known = self.lock().get(id).cloned()?;
        // Also looked up again when the clock was set back.
        (known.looked_up <= now && now.since(known.looked_up) < FRESH).then_some(known)
    }

    fn keep(&self, id: &str, known: Known) {
        let mut all = self.lock();
        if all.len() >= REMEMBERED && !all.contains_key(id) {
            all.clear();
        }
        all.insert(id.to_owned(), known);
    }
}

/// Why a token is not good. What it once was is told to nobody but who has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// There is none, or its secret is wrong.
    Unknown,
    /// It ended by itself, at this moment.
    Expired(Timestamp),
    /// Somebody ended it, at this moment.
    Revoked(Timestamp),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("this token is not known here"),
            Self::Expired(at) => write!(f, "this token expired at {at}"),
            Self::Revoked(at) => write!(f, "this token was revoked at {at}"),
        }
    }
}

/// Whose token this is, if it is good.
///
/// # Errors
/// Those of the database.
pub async fn verify(app: &Shared, text: &str) -> Result<Result<Caller, Refusal>, DbError> {
    let Some(parts) = secret::parse(KIND, text) else { return Ok(Err(Refusal::Unknown)) };
    let (hash, id, now) = (parts.hash(), parts.id.to_owned(), app.clock.now());
    let Some(mut known) = find(app, &id, now).await?.filter(|known| known.hash == hash) else {
        return Ok(Err(Refusal::Unknown));
    };
    if let Some(refusal) = known.refusal(now) {
        return Ok(Err(refusal));
    }
    if known.noted.is_none_or(|noted| now.since(noted) >= NOTE_USE) {
        known.noted = Some(now);
        note_use(app, id.clone(), now);
    }
    let caller = known.caller.clone();
    app.tokens.keep(&id, known);
    Ok(Ok(caller))
}

/// Whether a token that was good once still is.
///
/// # Errors
/// Those of the database.
pub async fn is_good(app: &Shared, id: &str) -> Result<bool, DbError> {
    Ok(caller(app, id).await?.is_some())
}

/// Whose token this is, if it is good; for who proved the right to it before.
///
/// # Errors
/// Those of the database.
pub async fn caller(app: &Shared, id: &str) -> Result<Option<Caller>, DbError> {
    let now = app.clock.now();
    let good = find(app, id, now).await?.filter(|known| known.refusal(now).is_none());
    Ok(good.map(|known| known.caller))
}

/// A token, good or not.
async fn find(app: &Shared, id: &str, now: Time) -> Result<Option<Known>, DbError> {
    match app.tokens.find(id, now) {
        Some(known) => Ok(Some(known)),
        None => look_up(app, id.to_owned(), now).await,
    }
}

async fn look_up(app: &Shared, id: String, now: Time) -> Result<Option<Known>, DbError> {
    app.db
        .read(move |tx| {
            let sql = format!("SELECT {COLUMNS}, hash FROM tokens WHERE id = ?");
            let found = tx
                .prepare_cached(&sql)?
                .query_row([id], |row| Ok((token(row)?, Digest(row.get(8)?))))
                .optional()?;
            Ok(found.map(|(token, hash)| Known {
                hash,
                expires_at: token.expires_at,
                revoked_at: token.revoked_at,
                looked_up: now,
                noted: token.used_at.map(Time::from),
                caller: Caller { token: token.id, name: token.name, role: token.role },
            }))
        })
        .await
}

/// Nobody waits for it.
fn note_use(app: &Shared, id: String, now: Time) {
    let db = app.db.clone();
    tokio::spawn(async move {
        let noted = db.write(move |tx| {
            tx.execute("UPDATE tokens SET used_at = ? WHERE id = ?", params![now.0.cast_signed(), id])?;
            Ok::<_, DbError>(())
        });
        if let Err(error) = noted.await {
            tracing::warn!(%error, "a token's use was not noted");
        }
    });
}
