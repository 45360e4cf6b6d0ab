//! The file that a fleet leaves: read while no server is at it, and never changed.

use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;

use super::error::MigrateError;
use crate::data_dir::{DataDir, DataDirError, database_in};
use crate::db::{self, Connection, DbError};

/// The file, and the lock of its folder.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) connection: Connection,
    _lock: Option<DataDir>,
}

impl Source {
    /// Opens a data folder's database, or a file; keeps servers out of its folder, and reads from one state of it.
    pub(super) fn open(from: &Path) -> Result<Self, MigrateError> {
        let file = if from.is_dir() { database_in(from) } else { from.to_owned() };
        // A link leads to the folder that has the lock.
        let file = file.canonicalize().map_err(|_| MigrateError::NoFleet(from.to_owned()))?;
        let lock = lock(&file)?;
        match file.metadata() {
            Ok(metadata) if metadata.len() > 0 => {}
            Ok(_) if lock.is_some() => return Err(MigrateError::Elsewhere(from.to_owned())),
            _ => return Err(MigrateError::NoFleet(from.to_owned())),
        }
        let connection = db::open_to_read(&file).map_err(unreadable)?;
        connection.execute_batch("BEGIN").map_err(unreadable)?;
        let found: String =
            connection.query_row("PRAGMA integrity_check(1)", (), |row| row.get(0)).map_err(unreadable)?;
        if found != "ok" {
            return Err(MigrateError::Damaged(found));
        }
        Ok(Self { connection, _lock: lock })
    }
}

/// Tells a damaged file from one that cannot be read for another reason.
fn unreadable(error: DbError) -> MigrateError {
    match error {
        DbError::Sqlite(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseCorrupt) => {
            MigrateError::Damaged(error.to_string())
        }
        other => MigrateError::Source(other),
    }
}

/// Takes the lock of the folder that a file is in, if a server has ever used it.
fn lock(file: &Path) -> Result<Option<DataDir>, MigrateError> {
    let folder: PathBuf = file.parent().map_or_else(|| "/".into(), Path::to_owned);
    if !folder.join("lock").is_file() {
        return Ok(None);
    }
    DataDir::open(&folder).map(Some).map_err(|error| match error {
        DataDirError::InUse(path) => MigrateError::Running(path),
        other => MigrateError::DataDir(other),
    })
}
