//! The database: SQLite in WAL mode, one thread that writes, several connections that read.
//!
//! A write is a closure over a transaction. Closures that wait at the same time share one transaction on disk, each in a
//! savepoint of its own: one that fails takes back what it did and nothing else, and a fleet's reports cost one
//! `fsync` for many. Its caller hears of success only when the disk has it.

pub mod growth;
mod migrate;
mod pool;
mod writer;

use std::path::Path;

pub use rusqlite::{Connection, OptionalExtension, Row, params};

use pool::Pool;
use writer::Writer;

/// Why the database did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// SQLite's reason.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    /// What stands in a column is not what this version puts there.
    #[error("the database holds something unreadable in {0}: {1}")]
    Corrupt(&'static str, String),
    /// The file was written by a newer version.
    #[error(
        "the database was made by a newer version of Otaru (schema {0}); use that one, or restore a backup"
    )]
    Newer(i64),
    /// The file was written by an older version, and is not brought up to date by what was asked.
    #[error(
        "the database is of an older version of Otaru (schema {0}); start the server once with this one, or use the one that the server runs"
    )]
    Older(i64),
    /// Somebody else changed a row between reading and writing it.
    #[error("it was changed meanwhile; try again")]
    Conflict,
    /// The disk is full.
    #[error("the disk is full; make room and try again, nothing was lost")]
    Full,
    /// The server is shutting down.
    #[error("the server is shutting down")]
    Closed,
}

impl DbError {
    /// What could not be read from a column.
    pub fn corrupt(column: &'static str, why: impl std::fmt::Display) -> Self {
        Self::Corrupt(column, why.to_string())
    }
}

/// Names the one failure that an operator can do something about.
fn named(error: rusqlite::Error) -> DbError {
    match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DiskFull) => DbError::Full,
        _ => DbError::Sqlite(error),
    }
}

/// The database. Cheap to clone.
#[derive(Clone)]
pub struct Db {
    writer: Writer,
    readers: Pool,
}

impl Db {
    /// Opens the database at `path`, makes it if it is not there, and brings it to the present schema.
    ///
    /// # Errors
    /// When it cannot be opened, or belongs to a newer version.
    pub fn open(path: &Path) -> Result<Self, DbError> {
        let mut connection = connect(path)?;
        migrate::run(&mut connection)?;
        Ok(Self { writer: Writer::start(connection), readers: Pool::new(path) })
    }

    /// Changes something; all of it or, if `work` fails, nothing. Done when it is on disk.
    ///
    /// # Errors
    /// Those of `work`, and those of the disk.
    pub async fn write<T, E>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<DbError> + Send + 'static,
    {
        self.writer.write(work).await
    }

    /// Reads from one consistent snapshot.
    ///
    /// # Errors
    /// Those of `work`.
    pub async fn read<T, E>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<DbError> + Send + 'static,
    {
        self.readers.read(work).await
    }
}

/// Opens a database that is there, of the present schema, without changing it.
///
/// # Errors
/// When it cannot be opened, or belongs to another version.
pub(crate) fn open_as_it_is(path: &Path) -> Result<Connection, DbError> {
    let connection = connect(path)?;
    migrate::is_present(&connection)?;
    Ok(connection)
}

/// Opens a connection with the settings that every one needs.
fn connect(path: &Path) -> Result<Connection, DbError> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn open() -> (tempfile::TempDir, Db) {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(&dir.path().join("otaru.db")).unwrap();
        (dir, db)
    }

    async fn put(db: &Db, key: &'static str, value: &'static str) -> Result<(), DbError> {
        db.write(move |tx| {
            tx.execute("INSERT INTO meta (key, value) VALUES (?1, ?2)", params![key, value])?;
            Ok(())
        })
        .await
    }

    async fn keys(db: &Db) -> Vec<String> {
        db.read(|tx| {
            let mut rows = tx.prepare("SELECT key FROM meta ORDER BY key")?;
            Ok::<_, DbError>(rows.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?)
        })
        .await
        .unwrap()
    }

    #[tokio::test]
    async fn one_that_fails_takes_only_its_own_back() {
        let (_dir, db) = open();
        let failing = db.write(|tx| {
            tx.execute("INSERT INTO meta (key, value) VALUES ('b', '')", [])?;
            Err::<(), _>(DbError::Closed)
        });
        let (first, second, third) = tokio::join!(put(&db, "a", "1"), failing, put(&db, "c", "3"));
        assert!(first.is_ok() && third.is_ok());
        assert!(matches!(second, Err(DbError::Closed)));
        assert_eq!(keys(&db).await, ["a", "c"]);
    }

    #[tokio::test]
    async fn a_panic_in_a_closure_is_an_error_of_its_caller() {
        let (_dir, db) = open();
        let failing = db.write(|tx| {
            tx.execute("INSERT INTO meta (key, value) VALUES ('b', '')", [])?;
            assert!(tx.is_autocommit(), "never so here");
            Ok::<(), DbError>(())
        });
        assert!(matches!(failing.await, Err(DbError::Closed)));
        put(&db, "a", "1").await.unwrap();
        assert_eq!(keys(&db).await, ["a"]);
    }

    #[tokio::test]
    async fn what_was_written_is_there_after_a_restart() {
        let (dir, db) = open();
        put(&db, "a", "1").await.unwrap();
        drop(db);
        let db = Db::open(&dir.path().join("otaru.db")).unwrap();
        assert_eq!(keys(&db).await, ["a"]);
    }

    #[test]
    fn a_newer_database_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("otaru.db");
        drop(Db::open(&path).unwrap());
        Connection::open(&path).unwrap().pragma_update(None, "user_version", 1_000).unwrap();
        assert!(matches!(Db::open(&path), Err(DbError::Newer(1_000))));
    }
}
