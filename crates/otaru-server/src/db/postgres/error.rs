//! PostgreSQL's errors, by what can be done about them.

use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

use crate::db::error::DbError;

impl From<Error> for DbError {
    fn from(error: Error) -> Self {
        let Some(state) = error.code() else {
            return match error.is_closed()
                || std::error::Error::source(&error).is_some_and(|why| why.is::<std::io::Error>())
            {
                true => Self::Unavailable(described(&error)),
                false => Self::Postgres(described(&error)),
            };
        };
        match state {
            state if *state == SqlState::DISK_FULL => Self::Full,
            state
                if *state == SqlState::T_R_SERIALIZATION_FAILURE
                    || *state == SqlState::T_R_DEADLOCK_DETECTED =>
            {
                Self::Conflict
            }
            state if is_outage(state) => Self::Unavailable(described(&error)),
            state if is_busy(state) => Self::Busy(described(&error)),
            state if is_stale(state) => Self::Stale(described(&error)),
            _ => Self::Postgres(described(&error)),
        }
    }
}

/// Whether a state tells that PostgreSQL is not there just now: class 08 (connection) and 57P (operator intervention). PostgreSQL 15,
/// appendix A.
fn is_outage(state: &SqlState) -> bool {
    ["08", "57P"].iter().any(|class| state.code().starts_with(class))
}

/// Whether a state tells that it is there, and may do the same a moment later: class 53 (resources, such as sessions), and what waited or
/// took too long.
pub(super) fn is_busy(state: &SqlState) -> bool {
    state.code().starts_with("53") || matches!(state.code(), "55P03" | "57014")
}

/// Whether a state tells that a session is not what it was: it ended for idling, may only read now, or has prepared statements that its
/// database knows no more or has other columns for.
fn is_stale(state: &SqlState) -> bool {
    matches!(state.code(), "25P03" | "25006" | "26000" | "0A000")
}

/// Returns an error with what caused it: the library's own sentence is "db error".
pub(super) fn described(error: &Error) -> String {
    match error.as_db_error() {
        Some(told) => format!("{} ({})", told.message(), told.code().code()),
        None => {
            let mut text = error.to_string();
            let mut cause = std::error::Error::source(error);
            while let Some(error) = cause {
                text = format!("{text}: {error}");
                cause = error.source();
            }
            text
        }
    }
}
