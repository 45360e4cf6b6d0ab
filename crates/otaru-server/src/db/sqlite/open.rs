//! Connections to the database file, as all of them are set up.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use crate::db::error::DbError;

/// Opens a connection with the settings that every one needs.
pub(in crate::db) fn connect(path: &Path) -> Result<Connection, DbError> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(std::time::Duration::from_secs(10))?;
    // WAL: readers and the writer do not wait for each other. FULL: what was answered survives a loss of power.
    connection.pragma_update(None, "journal_mode", "wal")?;
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "temp_store", "memory")?;
    connection.set_prepared_statement_cache_capacity(128);
    Ok(connection)
}

/// Opens a file that is there for reading: nothing changes in it.
pub(in crate::db) fn read_only(path: &Path) -> Result<Connection, DbError> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    connection.busy_timeout(std::time::Duration::from_secs(10))?;
    Ok(connection)
}
