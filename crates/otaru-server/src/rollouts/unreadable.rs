//! Rows that cannot be read: a newer version wrote them, or the database was damaged. Each is told once a minute at most and left out, so that
//! other rollouts, reports and the sweep of the fleet go on.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::db::DbError;
use crate::told::Told;

/// Rows that are told by name within a minute; that there are more is told without.
const REMEMBERED: usize = 100;

/// Rows that were told.
static TELLING: Mutex<Telling> = Mutex::new(Telling { rows: BTreeMap::new(), more: Told::new() });

/// What was told lately.
struct Telling {
    rows: BTreeMap<String, Told>,
    /// That there are more.
    more: Told,
}

/// What is to be told.
#[derive(Debug, PartialEq, Eq)]
enum Tell {
    Row,
    More,
    Nothing,
}

impl Telling {
    /// Notes that a row cannot be read. Says what is to be told of that.
    fn of(&mut self, row: &str) -> Tell {
        if self.rows.len() >= REMEMBERED && !self.rows.contains_key(row) {
            self.rows.retain(|_, told| !told.is_old());
            if self.rows.len() >= REMEMBERED {
                return if self.more.is_due() { Tell::More } else { Tell::Nothing };
            }
        }
        match self.rows.entry(row.to_owned()).or_default().is_due() {
            true => Tell::Row,
            false => Tell::Nothing,
        }
    }
}

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
pub(crate) fn parse<T: serde::de::DeserializeOwned>(
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
    let due = TELLING.lock().unwrap_or_else(PoisonError::into_inner).of(&row);
    match due {
        Tell::Row => {
            tracing::error!(%row, column, why, "this cannot be read and is left out; a newer version of Otaru wrote it, or the database is damaged")
        }
        Tell::More => tracing::error!("more rows cannot be read, and are left out"),
        Tell::Nothing => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_told_once_and_more_than_some_together() {
        let mut telling = Telling { rows: BTreeMap::new(), more: Told::new() };
        let told: Vec<_> = (0..3 * REMEMBERED).map(|row| telling.of(&format!("row {row}"))).collect();
        assert!(told[..REMEMBERED].iter().all(|told| *told == Tell::Row));
        assert_eq!(told[REMEMBERED], Tell::More);
        assert!(told[REMEMBERED + 1..].iter().all(|told| *told == Tell::Nothing));
        assert_eq!(telling.of("row 0"), Tell::Nothing);
        assert_eq!(telling.rows.len(), REMEMBERED);
    }
}
