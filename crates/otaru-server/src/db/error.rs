//! Errors of the database.

use axum::http::StatusCode;

use crate::problem::Problem;

/// Why the database did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// SQLite's reason.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    /// A column holds something that this version does not put there.
    #[error("the database holds something unreadable in {0}: {1}")]
    Corrupt(&'static str, String),
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
    /// Somebody else changed a row between reading and writing it.
    #[error("it was changed meanwhile; try again")]
    Conflict,
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
}

/// Names the one failure that an operator can do something about.
pub(super) fn named(error: rusqlite::Error) -> DbError {
    match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DiskFull) => DbError::Full,
        _ => DbError::Sqlite(error),
    }
}

impl From<DbError> for Problem {
    fn from(error: DbError) -> Self {
        match error {
            DbError::Full => {
                Problem::new(StatusCode::INSUFFICIENT_STORAGE, "disk-full", "the server's disk is full")
            }
            DbError::Conflict => Problem::conflict("it was changed meanwhile; try again"),
            DbError::Closed => {
                Problem::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "the server is shutting down")
            }
            other => Problem::internal(&other),
        }
    }
}

impl From<rusqlite::Error> for Problem {
    fn from(error: rusqlite::Error) -> Self {
        DbError::from(error).into()
    }
}
