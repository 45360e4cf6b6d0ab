//! A fleet's move from a file of SQLite's into an empty database of PostgreSQL's.
//!
//! All of it is one transaction: the tables, every row with its id, and the look at what arrived. Whoever ends it in the middle has an
//! empty database and the file as it was.
//!
//! | file | what |
//! | --- | --- |
//! | `error` | why a fleet cannot be moved |
//! | `source` | the file, with no server at it |
//! | `tables` | tables and columns as the file has them, in the order of their references |
//! | `target` | the database: empty before, whole after |
//! | `digest` | one number of a whole table, the same over both databases |

mod digest;
mod error;
mod source;
mod tables;
mod target;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use digest::{Contents, TableDigest, plain};
pub use error::MigrateError;
use source::Source;
use tables::Table;
use target::Target;

use crate::db::{Connection, DbError, PostgresSettings, Value};

/// Rows between two calls of progress.
const STEP: u64 = 1_000;

/// Part of the move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Rows go from one database to the other.
    Copy,
    /// Rows are read again from the other.
    Check,
}

/// How far the move is.
#[derive(Debug, Clone, Copy)]
pub struct Progress<'a> {
    /// Part of the move.
    pub stage: Stage,
    /// Table that is under way, or done where `table_done` says so.
    pub table: &'a str,
    /// Whether the table is done.
    pub table_done: bool,
    /// Rows that are done, of all tables, copied and checked alike.
    pub done: u64,
    /// Rows to do.
    pub of: u64,
}

/// A table that was moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// Name.
    pub table: String,
    /// Number of rows.
    pub rows: u64,
    /// SHA-256 of all rows in the order of the table's key, as both databases have them.
    pub digest: String,
    /// Texts in which NUL, which PostgreSQL's text cannot have, became U+FFFD.
    pub replaced: u64,
}

/// Moves a fleet: from a data folder or a file of SQLite's, which is not changed, into an empty database. Blocks. `progress` hears of it
/// every thousand rows and at the end of each table. Ends soon when `stop` is set; then, as after every error, the database is empty.
///
/// # Errors
/// When a server runs, either database is not as it must be, or what arrived is not what was sent.
pub fn migrate(
    from: &Path,
    to: &PostgresSettings,
    stop: &AtomicBool,
    mut progress: impl FnMut(Progress<'_>),
) -> Result<Vec<Moved>, MigrateError> {
    let source = Source::open(from)?;
    let target = Target::open(to)?;
    let moved =
        within(&source.connection, &target, &mut Steps { stop, progress: &mut progress, done: 0, of: 0 });
    let moved = moved.map_err(|error| match stop.load(Ordering::Relaxed) {
        true => MigrateError::Stopped,
        false => error,
    });
    // What is not committed goes with the session.
    let moved = moved?;
    target.commit()?;
    Ok(moved)
}

/// Copies everything and looks at what arrived, in the transaction that is open.
fn within(source: &Connection, target: &Target, steps: &mut Steps<'_>) -> Result<Vec<Moved>, MigrateError> {
    target.make_tables()?;
    let tables = tables::of(source)?;
    target.has(&tables)?;
    for table in &tables {
        // Each row is read once here and once there.
        steps.of += 2 * count(source, table)?;
    }
    target.clear(&tables)?;
    let sent =
        tables.iter().map(|table| copy(source, target, table, steps)).collect::<Result<Vec<_>, _>>()?;
    target.settle(source, &tables)?;
    let checked = tables.iter().zip(sent).map(|(table, sent)| check(target, table, sent, steps));
    checked.collect()
}

fn count(source: &Connection, table: &Table) -> Result<u64, MigrateError> {
    let sql = format!("SELECT count(*) FROM {}", table.quoted());
    source.query_row(&sql, (), |row| row.get(0)).map_err(MigrateError::Source)
}

/// Copies a table. Returns what was sent.
fn copy(
    source: &Connection,
    target: &Target,
    table: &Table,
    steps: &mut Steps<'_>,
) -> Result<Contents, MigrateError> {
    let mut digest = TableDigest::new(table);
    let mut failed = None;
    let feed = |send: &mut dyn FnMut(&[Value]) -> Result<(), DbError>| {
        let read = source.prepare(&table.select()).for_each((), |row| {
            steps.row(Stage::Copy, table)?;
            let mut values = row.into_values();
            if let Err(error) = plain(table, &mut values, &mut digest) {
                failed = Some(error);
                return Err(DbError::Closed);
            }
            digest.row(&values);
            send(&values)
        });
        read.map_err(|error| table.named(error))
    };
    let copied = target.connection.copy_in(&table.quoted(), &table.columns(), feed);
    match (failed, copied) {
        (Some(error), _) => return Err(error),
        (None, copied) => drop(copied.map_err(MigrateError::Copy)?),
    }
    steps.table(Stage::Copy, table);
    Ok(digest.end())
}

/// Reads a table again, and holds it against what was sent.
fn check(
    target: &Target,
    table: &Table,
    sent: Contents,
    steps: &mut Steps<'_>,
) -> Result<Moved, MigrateError> {
    let mut digest = TableDigest::new(table);
    let read = target.connection.prepare(&table.select()).for_each((), |row| {
        steps.row(Stage::Check, table)?;
        digest.row(row.values());
        Ok(())
    });
    read.map_err(MigrateError::Target)?;
    steps.table(Stage::Check, table);
    let there = digest.end();
    if (there.rows, &there.digest) != (sent.rows, &sent.digest) {
        return Err(MigrateError::Differs { table: table.name.clone(), sent: sent.rows, there: there.rows });
    }
    Ok(Moved { table: table.name.clone(), rows: sent.rows, digest: sent.digest, replaced: sent.replaced })
}

/// Rows that are done, for whoever watches or wants the end.
struct Steps<'s> {
    stop: &'s AtomicBool,
    progress: &'s mut dyn FnMut(Progress<'_>),
    done: u64,
    of: u64,
}

impl Steps<'_> {
    /// Counts a row. Fails when the end is wanted.
    fn row(&mut self, stage: Stage, table: &Table) -> Result<(), DbError> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(DbError::Closed);
        }
        self.done += 1;
        if self.done.is_multiple_of(STEP) {
            self.tell(stage, table, false);
        }
        Ok(())
    }

    fn table(&mut self, stage: Stage, table: &Table) {
        self.tell(stage, table, true);
    }

    fn tell(&mut self, stage: Stage, table: &Table, table_done: bool) {
        let Self { done, of, .. } = *self;
        (self.progress)(Progress { stage, table: &table.name, table_done, done, of });
    }
}
