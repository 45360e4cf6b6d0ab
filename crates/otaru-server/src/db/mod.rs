//! The database: SQLite in WAL mode, one thread that writes, several connections that read.
//!
//! A write is a closure over a transaction. Closures that wait at the same time share one transaction on disk, each in a
//! savepoint of its own: one that fails takes back what it did and nothing else, and a fleet's reports cost one
//! `fsync` for many. Its caller hears of success only when the disk has it.
//!
//! Everything that takes a [`Connection`] or a [`Db`] may fail with [`DbError`]: functions say only what else may go wrong.

mod connection;
mod error;
pub mod growth;
mod migrate;
mod pool;
mod writer;

use std::path::Path;

pub use rusqlite::{Connection, OptionalExtension, Row, params};

pub use error::DbError;

use connection::connect;
use pool::Pool;
use writer::Writer;

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
