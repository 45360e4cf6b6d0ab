//! Connections to the database file, as all of them are set up.

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::db::error::DbError;

/// Time for which a statement waits for others.
const PATIENCE: Duration = Duration::from_secs(10);

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

/// Moves what stands in the log of a file into the file, as far as nobody reads what it replaces.
pub(in crate::db) fn checkpoint(path: &Path) -> Result<(), DbError> {
    let connection = connect(path)?;
    Ok(connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |_| Ok(()))?)
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
