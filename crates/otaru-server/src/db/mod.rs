//! The database: SQLite in a file of this server, or PostgreSQL, which several servers may share. One thread writes, several connections
//! read.
//!
//! A write is a closure over a transaction. Closures that wait at the same time share one transaction on disk, each in a
//! savepoint of its own: one that fails takes back what it did and nothing else, and a fleet's reports cost one
//! `fsync` for many. Its caller hears of success only when the disk has it.
//!
//! In PostgreSQL, too, one transaction writes at a time, whichever server it is of: a lock that ends with the transaction sees to that. So a
//! closure means the same over either database, and nothing that it read can change before it ends.
//!
//! Everything that takes a [`Connection`] or a [`Db`] may fail with [`DbError`]: functions say only what else may go wrong.

mod connection;
mod engine;
mod error;
pub mod few;
pub mod growth;
mod outage;
mod pool;
mod postgres;
mod sqlite;
mod value;
mod writer;

use std::path::Path;

pub use connection::{Connection, Dialect, OptionalExtension, Statement};
pub use engine::Location;
pub use error::DbError;
pub use postgres::{PostgresSettings, SettingsError};
pub(crate) use value::params;
pub use value::{FromValue, Params, Row, ToValue, Value};

use engine::Engine;
use outage::Outage;
use pool::Pool;
use writer::Writer;

/// The database. Cheap to clone.
#[derive(Clone)]
pub struct Db {
    writer: Writer,
    readers: Pool,
    engine: Engine,
}

impl Db {
    /// Opens the database, makes its tables if they are not there, and brings them to the present schema. It blocks: for seconds, if a
    /// server does not answer.
    ///
    /// # Errors
    /// When it cannot be opened, or belongs to a newer version.
    pub fn open(location: impl Into<Location>) -> Result<Self, DbError> {
        let engine = Engine::new(location.into());
        // On a thread of its own: PostgreSQL's client waits, as nobody may who drives asynchronous tasks.
        let preparing = std::thread::scope(|scope| scope.spawn(|| engine.prepare()).join());
        let connection = preparing.unwrap_or(Err(DbError::Closed))?;
        let outage = Outage::new();
        let writer = Writer::start(engine.clone(), connection, outage.clone());
        Ok(Self { writer, readers: Pool::new(engine.clone(), outage), engine })
    }

    /// Returns the id by which the database knows what is written through this.
    pub fn writer_id(&self) -> &str {
        self.writer.id()
    }

    /// Changes something; all of it or, if `work` fails, nothing. Done when it is on disk. `work` may be run more than once: it is a
    /// function of what it takes along, and has no effect but on the database.
    ///
    /// # Errors
    /// Those of `work`, and those of the disk.
    pub async fn write<T, E>(
        &self,
        work: impl Fn(&Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<DbError> + Send + 'static,
    {
        self.writer.write(work).await
    }

    /// Reads from one consistent snapshot. `work` is run again where its session breaks in the middle.
    ///
    /// # Errors
    /// Those of `work`.
    pub async fn read<T, E>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, E> + Clone + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<DbError> + Send + 'static,
    {
        self.readers.read(work).await
    }

    /// Brings a file up to date with its log, so that who copies it alone copies the whole fleet. PostgreSQL sees to that by itself.
    pub async fn checkpoint(&self) -> Result<(), DbError> {
        let engine = self.engine.clone();
        tokio::task::spawn_blocking(move || engine.checkpoint()).await.unwrap_or(Err(DbError::Closed))
    }
}

/// Opens a database that is there, of the present schema, as it is. Over PostgreSQL it blocks.
///
/// # Errors
/// When it cannot be opened, or belongs to another version.
pub(crate) fn open_as_it_is(location: &Location) -> Result<Connection, DbError> {
    match location {
        Location::File(path) => {
            let connection = sqlite::connect(path)?;
            sqlite::is_present(&connection)?;
            Ok(connection.into())
        }
        Location::Postgres(settings) => {
            let session = postgres::log_in(settings)?;
            postgres::is_present(&session)?;
            Ok(session.into())
        }
    }
}

/// Fails if a file is of a schema that this version does not know.
pub(crate) fn is_not_newer(connection: &rusqlite::Connection) -> Result<(), DbError> {
    sqlite::is_not_newer(connection)
}

/// Opens a file of the present schema for reading: nothing changes in it.
///
/// # Errors
/// When it cannot be opened, or belongs to another version.
pub(crate) fn open_to_read(path: &Path) -> Result<Connection, DbError> {
    let connection = sqlite::read_only(path)?;
    sqlite::is_present(&connection)?;
    Ok(connection.into())
}

/// Logs in to PostgreSQL, whatever is in that database. It blocks.
///
/// # Errors
/// When it cannot be reached, or refuses.
pub(crate) fn log_in(settings: &PostgresSettings) -> Result<Connection, DbError> {
    Ok(postgres::log_in(settings)?.into())
}

/// Keeps servers from making tables in a database of PostgreSQL's until the transaction that is open ends.
///
/// # Errors
/// When another one does so for too long.
pub(crate) fn lock_schema(connection: &Connection) -> Result<(), DbError> {
    connection.postgres().map_or(Ok(()), postgres::lock_schema)
}

/// Makes the tables of the present schema in a database of PostgreSQL's, within the transaction that is open.
///
/// # Errors
/// When there are tables of a newer version.
pub(crate) fn make_tables(connection: &Connection) -> Result<(), DbError> {
    connection.postgres().map_or(Ok(()), postgres::migrate_within)
}

/// Fails unless a database of PostgreSQL's is of the present schema.
pub(crate) fn is_present(connection: &Connection) -> Result<(), DbError> {
    connection.postgres().map_or(Ok(()), postgres::is_present)
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

    #[tokio::test]
    async fn after_a_checkpoint_the_file_alone_has_everything() {
        let (dir, db) = open();
        put(&db, "a", "1").await.unwrap();
        db.checkpoint().await.unwrap();
        let copy = dir.path().join("copy.db");
        std::fs::copy(dir.path().join("otaru.db"), &copy).unwrap();
        assert_eq!(keys(&Db::open(&copy).unwrap()).await, ["a"]);
    }

    async fn keys(db: &Db) -> Vec<String> {
        db.read(|tx| {
            let rows = tx.prepare("SELECT key FROM meta ORDER BY key");
            rows.query_map((), |row| row.get(0))?.collect::<Result<_, _>>()
        })
        .await
        .unwrap()
    }

    #[tokio::test]
    async fn one_that_fails_takes_only_its_own_back() {
        let (_dir, db) = open();
        let failing = db.write(|tx| {
            tx.execute("INSERT INTO meta (key, value) VALUES ('b', '')", ())?;
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
            tx.execute("INSERT INTO meta (key, value) VALUES ('b', '')", ())?;
            tx.execute("INSERT INTO meta (key, value) VALUES ('c', '')", ())
                .map(|_| panic!("as a mistake does"))
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
        Connection::open(&path).unwrap().execute_batch("PRAGMA user_version = 1000").unwrap();
        assert!(matches!(Db::open(&path), Err(DbError::Newer(1_000))));
    }
}
