//! Rows that cannot be read: a newer version wrote them, or the database was damaged. Each is told once a minute at most and left out, so that
//! other rollouts, reports and the sweep of the fleet go on.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::db::DbError;
use crate::told::Told;

/// Rows that are remembered as told; with more of them all are told again.
const REMEMBERED: usize = 1_000;

/// Rows that were told.
static TELLING: Mutex<BTreeMap<String, Told>> = Mutex::new(BTreeMap::new());

/// A row that cannot be read.
fn of(column: &'static str, row: impl std::fmt::Display, error: &serde_json::Error) -> DbError {
    // What is wrong with an expression is shown with a pointer in a line of its own.
    let why = error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
    DbError::Unreadable(column, row.to_string(), why)
}

/// Reads a state from JSON; `row` says whose it is.
///
/// # Errors
/// [`DbError::Unreadable`] when it is none.
pub(super) fn parse<T: serde::de::DeserializeOwned>(
    column: &'static str,
    row: impl std::fmt::Display,
    state: &str,
) -> Result<T, DbError> {
    serde_json::from_str(state).map_err(|error| of(column, row, &error))
}

/// Leaves a row out that cannot be read.
///
/// # Errors
/// All others.
pub(crate) fn left_out<T>(read: Result<T, DbError>) -> Result<Option<T>, DbError> {
    match read {
        Ok(row) => Ok(Some(row)),
        Err(DbError::Unreadable(column, row, why)) => {
            tell(column, row, &why);
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn tell(column: &'static str, row: String, why: &str) {
    let mut telling = TELLING.lock().unwrap_or_else(PoisonError::into_inner);
    if telling.len() >= REMEMBERED {
        telling.clear();
    }
    if telling.entry(row.clone()).or_default().is_due() {
        tracing::error!(%row, column, why, "this cannot be read and is left out; a newer version of Otaru wrote it, or the database is damaged");
    }
}
