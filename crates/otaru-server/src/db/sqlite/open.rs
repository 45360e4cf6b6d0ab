//! Connections to the database file, as all of them are set up.

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::db::error::DbError;

/// Time for which a statement waits for others.
const PATIENCE: Duration = Duration::from_secs(10);

/// Time for which a checkpoint waits for those who read.
const CHECKPOINT: Duration = Duration::from_secs(1);

/// Opens a connection with the settings that every one needs.
pub(in crate::db) fn connect(path: &Path) -> Result<Connection, DbError> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(PATIENCE)?;
    // WAL: readers and the writer do not wait for each other. FULL: what was answered survives a loss of power.
    turn_on_wal(&connection)?;
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "temp_store", "memory")?;
    connection.set_prepared_statement_cache_capacity(128);
    Ok(connection)
}

/// Moves what stands in the log of a file into the file.
///
/// # Errors
/// [`DbError::Busy`] where somebody reads what would be replaced, for longer than a moment.
pub(in crate::db) fn checkpoint(path: &Path) -> Result<(), DbError> {
    let connection = connect(path)?;
    connection.busy_timeout(CHECKPOINT)?;
    // That is no error of SQLite's, but a column of its answer: https://www.sqlite.org/pragma.html#pragma_wal_checkpoint
    match connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |row| row.get(0))? {
        false => Ok(()),
        true => Err(DbError::Busy("somebody reads the database".to_owned())),
    }
}

/// Opens a file that is there for reading: nothing changes in it.
pub(in crate::db) fn read_only(path: &Path) -> Result<Connection, DbError> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    connection.busy_timeout(PATIENCE)?;
    Ok(connection)
}

/// Turns on WAL. SQLite waits for nobody there, such as the last connection of a server that has just stopped.
fn turn_on_wal(connection: &Connection) -> Result<(), rusqlite::Error> {
    let begun = Instant::now();
    loop {
        match connection.pragma_update(None, "journal_mode", "wal") {
            Err(error)
                if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
                    && begun.elapsed() < PATIENCE =>
            {
                sleep(Duration::from_millis(10));
            }
            done => return done,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_that_somebody_is_in_the_way_of_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("otaru.db");
        let (writer, reader) = (connect(&path).unwrap(), connect(&path).unwrap());
        writer.execute_batch("CREATE TABLE t (x); INSERT INTO t VALUES (1)").unwrap();
        reader.execute_batch("BEGIN; SELECT * FROM t").unwrap();
        writer.execute_batch("INSERT INTO t VALUES (2)").unwrap();
        assert!(matches!(checkpoint(&path), Err(DbError::Busy(_))));
        reader.execute_batch("COMMIT").unwrap();
        checkpoint(&path).unwrap();
        assert_eq!(std::fs::metadata(path.with_extension("db-wal")).unwrap().len(), 0);
    }

    #[test]
    fn a_file_that_somebody_closes_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("otaru.db");
        let other = Connection::open(&path).unwrap();
        other.execute_batch("CREATE TABLE t (x); BEGIN EXCLUSIVE; INSERT INTO t VALUES (1)").unwrap();
        let opening = std::thread::spawn({
            let path = path.clone();
            move || connect(&path).map(drop)
        });
        sleep(Duration::from_millis(100));
        assert!(!opening.is_finished());
        other.execute_batch("COMMIT").unwrap();
        drop(other);
        opening.join().unwrap().unwrap();
    }
}
