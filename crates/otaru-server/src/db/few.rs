//! Whether few rows are as they should be: then a search begins with them, and else with whatever is in order.
//!
//! Databases decide so by what they know of a table, which is nothing in SQLite's and an average in PostgreSQL's; a fleet has tags and
//! states that nearly all devices have, and others that hardly any has.

use super::{Connection, DbError, Dialect, Value};

/// As many rows as are looked up one by one, and sorted, within a few milliseconds. In a debug build, as tests are, so few that small fleets go
/// both ways.
const FEW: i64 = if cfg!(debug_assertions) { 20 } else { 10_000 };

/// Tells whether few rows meet a condition: `from` is tables and condition, for which an index is of use.
///
/// # Errors
/// Errors of the database.
pub fn are_few(tx: &Connection, from: &str, values: Vec<Value>) -> Result<bool, DbError> {
    let sql = format!("SELECT count(*) FROM (SELECT 1 FROM {from} LIMIT {}) t", FEW + 1);
    let count: i64 = tx.prepare(&sql).query_row(values, |row| row.get(0))?;
    Ok(count <= FEW)
}

/// Returns the condition that a column is one of those that are selected, and that [are few](are_few). Databases begin with them. `select` is
/// what follows the word.
pub fn in_few(dialect: Dialect, column: &str, select: &str) -> String {
    match dialect {
        Dialect::Sqlite => format!("{column} IN (SELECT {select} LIMIT {FEW})"),
        // It guesses ten elements of an array; of a subquery, its plan for all values assumes an average.
        Dialect::Postgres => format!("{column} = ANY (ARRAY(SELECT {select} LIMIT {FEW}))"),
    }
}
