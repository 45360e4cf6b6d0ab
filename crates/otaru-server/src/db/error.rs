//! Errors of the database.

use axum::http::StatusCode;

use crate::problem::Problem;

/// Why the database did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// SQLite's reason.
    #[error("{0}")]
    Sqlite(rusqlite::Error),
    /// PostgreSQL's reason.
    #[error("PostgreSQL: {0}")]
    Postgres(String),
    /// The database cannot be reached just now.
    #[error("the database cannot be reached: {0}")]
    Unavailable(String),
    /// The database is there, and could not do it just now.
    #[error("the database is busy: {0}")]
    Busy(String),
    /// A session is not what it was, and another one may do it.
    #[error("the session with the database has to be opened anew: {0}")]
    Stale(String),
    /// A pool between here and PostgreSQL gives each transaction another session.
    #[error(
        "between here and PostgreSQL is a pool that gives each transaction the session of another (pgbouncer with pool_mode = transaction, or the like), and what is set and prepared for a session would be lost; set pool_mode = session there, or name PostgreSQL itself"
    )]
    Pooled,
    /// There is no such row.
    #[error("the database has no such row")]
    NoRow,
    /// A column holds something that this version does not put there.
    #[error("the database holds something unreadable in {0}: {1}")]
    Corrupt(&'static str, String),
    /// A row cannot be read: its column, which it is, and why.
    #[error("unreadable in {0}: {1}: {2}")]
    Unreadable(&'static str, String, String),
    /// The file was written by a newer version.
    #[error(
        "the database was made by a newer version of Otaru (schema {0}); use that one, or restore a backup"
    )]
    Newer(i64),
    /// The file was written by an older version, and is not brought up to date by what was asked.
    #[error(
        "the database is of an older version of Otaru (schema {0}); start the server once with this one, or use the one that the server runs"
    )]
    Older(i64),
    /// It has no tables of ours, and this is what to do.
    #[error("there is no fleet in this database; {0}")]
    NoFleet(&'static str),
    /// Somebody else changed a row between reading and writing it.
    #[error("it was changed meanwhile; try again")]
    Conflict,
    /// Another server of the same database does this now.
    #[error("another server has taken this over")]
    NotHeld,
    /// The disk is full.
    #[error("the disk is full; make room and try again, nothing was lost")]
    Full,
    /// The server is shutting down.
    #[error("the server is shutting down")]
    Closed,
}

impl DbError {
    /// Returns the error for a column that cannot be read.
    pub fn corrupt(column: &'static str, why: impl std::fmt::Display) -> Self {
        Self::Corrupt(column, why.to_string())
    }

    /// Whether the database is away. The log has that already, once for all who ask: nobody else need tell.
    pub const fn is_outage(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }

    /// Whether it was the database that failed, and not what was asked of it: the same may be done a moment later.
    pub const fn is_passing(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Busy(_) | Self::Stale(_))
    }

    /// Whether the session that it came from is good no more.
    pub(super) const fn spoils_session(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Stale(_))
    }

    /// Whether a transaction that failed so may take place if it is run again.
    pub(super) const fn may_pass(&self) -> bool {
        matches!(self, Self::Conflict) || self.is_passing()
    }

    /// Returns the same error for one more caller.
    pub(super) fn for_one_more(&self) -> Self {
        match self {
            Self::Sqlite(rusqlite::Error::SqliteFailure(code, text)) => {
                Self::Sqlite(rusqlite::Error::SqliteFailure(*code, text.clone()))
            }
            Self::Postgres(text) => Self::Postgres(text.clone()),
            Self::Unavailable(text) => Self::Unavailable(text.clone()),
            Self::Busy(text) => Self::Busy(text.clone()),
            Self::Stale(text) => Self::Stale(text.clone()),
            Self::Pooled => Self::Pooled,
            Self::Full => Self::Full,
            Self::Conflict => Self::Conflict,
            Self::Closed => Self::Closed,
            Self::NotHeld => Self::NotHeld,
            other => Self::Corrupt("transaction", other.to_string()),
        }
    }
}

/// Names the one failure of SQLite that an operator can do something about.
impl From<rusqlite::Error> for DbError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DiskFull) => Self::Full,
            _ => Self::Sqlite(error),
        }
    }
}

impl From<DbError> for Problem {
    fn from(error: DbError) -> Self {
        match error {
            DbError::Full => {
                Problem::new(StatusCode::INSUFFICIENT_STORAGE, "disk-full", "the server's disk is full")
            }
            DbError::Conflict => Problem::conflict("it was changed meanwhile; try again"),
            DbError::Unavailable(_) => Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "unavailable",
                "the server cannot reach its database; try again in a moment",
            ),
            DbError::Busy(_) | DbError::Stale(_) => Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "unavailable",
                "the server's database is busy; try again in a moment",
            ),
            DbError::NotHeld => Problem::conflict("another server has taken this over; try again"),
            DbError::Closed => {
                Problem::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "the server is shutting down")
            }
            other => Problem::internal(&other),
        }
    }
}
