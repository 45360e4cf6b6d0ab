//! API tokens: `otaru_<id>_<secret>`.

use otaru_api::{NewToken, Role, Token};
use otaru_rollout::Time;

use super::name::{BadName, plain_name};
use crate::caller::Caller;
use crate::db::{Connection, DbError, OptionalExtension as _, Row, params};
use crate::problem::Problem;
use crate::secret;

/// Prefix of tokens.
pub(super) const KIND: &str = "otaru";

/// Reasons for which there is no new token.
#[derive(Debug, thiserror::Error)]
pub enum NewTokenError {
    /// The name cannot be one.
    #[error(transparent)]
    Name(#[from] BadName),
    /// The system has no randomness.
    #[error("the system has no randomness: {0}")]
    Randomness(#[from] getrandom::Error),
    /// The database failed.
    #[error(transparent)]
    Db(#[from] DbError),
}

impl From<NewTokenError> for Problem {
    fn from(error: NewTokenError) -> Self {
        match error {
            NewTokenError::Name(error) => error.into(),
            NewTokenError::Randomness(error) => Self::internal(&error),
            NewTokenError::Db(error) => error.into(),
        }
    }
}

/// Makes a token; gives back the text that is shown once.
///
/// # Errors
/// When its name cannot be one, or the system has no randomness.
pub fn create(tx: &Connection, new: NewToken, by: &str, now: Time) -> Result<(Token, String), NewTokenError> {
    let name = plain_name(&new.name)?;
    let made = secret::make(KIND)?;
    tx.execute(
        "INSERT INTO tokens (id, name, role, hash, created_at, created_by, expires_at) VALUES (?, ?, ?, ?, ?, ?, ?)",
        params![made.id, name, new.role.as_str(), made.hash.0, now.0.cast_signed(), by, new.expires_at],
    )?;
    let token = Token {
        id: made.id,
        name,
        role: new.role.into(),
        created_at: now.into(),
        created_by: by.to_owned(),
        expires_at: new.expires_at,
        used_at: None,
        revoked_at: None,
    };
    Ok((token, made.text))
}

pub(super) const COLUMNS: &str = "id, name, role, created_at, created_by, expires_at, used_at, revoked_at";

pub(super) fn token(row: &Row) -> Result<Token, DbError> {
    let role: String = row.get(2)?;
    Ok(Token {
        id: row.get(0)?,
        name: row.get(1)?,
        role: Role::of_name(&role).unwrap_or(Role::Viewer).into(),
        created_at: row.get(3)?,
        created_by: row.get(4)?,
        expires_at: row.get(5)?,
        used_at: row.get(6)?,
        revoked_at: row.get(7)?,
    })
}

/// Returns whoever comes with this token.
pub(super) fn caller(token: Token) -> Caller {
    let role = token.role.known().unwrap_or(Role::Viewer);
    Caller { token: token.id, name: token.name, role }
}

/// All tokens, newest first.
pub fn list(tx: &Connection) -> Result<Vec<Token>, DbError> {
    let sql = format!("SELECT {COLUMNS} FROM tokens ORDER BY created_at DESC, id");
    let rows = tx.prepare(&sql);
    rows.query_map((), token)?.collect::<Result<_, _>>()
}

/// Ends a token. Says whether there was one that was good.
pub fn revoke(tx: &Connection, id: &str, now: Time) -> Result<bool, DbError> {
    let sql = "UPDATE tokens SET revoked_at = ? WHERE id = ? AND revoked_at IS NULL";
    Ok(tx.execute(sql, params![now.0.cast_signed(), id])? > 0)
}

/// Whether an admin can still get in.
pub fn any_admin(tx: &Connection, now: Time) -> Result<bool, DbError> {
    let sql = "SELECT EXISTS (SELECT 1 FROM tokens WHERE role = 'admin' AND revoked_at IS NULL
                              AND (expires_at IS NULL OR expires_at > ?))";
    tx.query_row(sql, [now.0.cast_signed()], |row| row.get(0))
}

/// The first admin token that is good, as a caller.
pub fn first_admin(tx: &Connection, now: Time) -> Result<Option<Caller>, DbError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM tokens WHERE role = 'admin' AND revoked_at IS NULL
           AND (expires_at IS NULL OR expires_at > ?) ORDER BY created_at, id LIMIT 1"
    );
    let found = tx.query_row(&sql, [now.0.cast_signed()], token).optional()?;
    Ok(found.map(caller))
}
