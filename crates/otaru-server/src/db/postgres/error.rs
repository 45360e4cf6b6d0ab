//! PostgreSQL's errors, by what can be done about them.

use postgres::error::SqlState;

use crate::db::error::DbError;

impl From<postgres::Error> for DbError {
    fn from(error: postgres::Error) -> Self {
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
            _ => Self::Postgres(described(&error)),
        }
    }
}

/// Whether a state tells that PostgreSQL is not there just now: class 08 (connection), 57P (operator intervention), 53 (resources), and a
/// session that was ended for idling or waiting for too long. PostgreSQL 15, appendix A.
fn is_outage(state: &SqlState) -> bool {
    let code = state.code();
    ["08", "57P", "53"].iter().any(|class| code.starts_with(class))
        || matches!(code, "25P03" | "55P03" | "25006")
        // Statements that a session prepared, and that its database knows no more or has other columns for.
        || matches!(code, "26000" | "0A000")
}

/// Returns an error with what caused it: the library's own sentence is "db error".
pub(super) fn described(error: &postgres::Error) -> String {
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
