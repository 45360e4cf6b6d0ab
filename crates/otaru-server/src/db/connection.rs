//! A connection to either database, as statements see it.
//!
//! Statements are written once, in what both dialects share: `?` and `?1` for parameters, `ON CONFLICT`, `RETURNING`, `coalesce`. Where
//! they differ, [`Connection::dialect`] tells, and both stand side by side.

use super::error::DbError;
use super::postgres::Session;
use super::value::{Flow, Params, Row, Value};

/// Which SQL a connection understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// SQLite's.
    Sqlite,
    /// PostgreSQL's.
    Postgres,
}

/// A connection to the database, within a transaction where it is lent for work.
pub struct Connection(Engine);

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Connection").field(&self.dialect()).finish()
    }
}

enum Engine {
    Sqlite(rusqlite::Connection),
    Postgres(Box<Session>),
}

impl From<rusqlite::Connection> for Connection {
    fn from(connection: rusqlite::Connection) -> Self {
        Self(Engine::Sqlite(connection))
    }
}

impl From<Session> for Connection {
    fn from(session: Session) -> Self {
        Self(Engine::Postgres(Box::new(session)))
    }
}

impl Connection {
    /// Opens a file of SQLite's, as it is.
    #[cfg(test)]
    pub(crate) fn open(path: impl AsRef<std::path::Path>) -> Result<Self, DbError> {
        Ok(super::sqlite::connect(path.as_ref())?.into())
    }

    /// Returns the SQL that it understands.
    pub fn dialect(&self) -> Dialect {
        match self.0 {
            Engine::Sqlite(_) => Dialect::Sqlite,
            Engine::Postgres(_) => Dialect::Postgres,
        }
    }

    /// Names a statement, to be run with values. It is prepared when it first runs, and kept so.
    pub fn prepare<'c>(&'c self, sql: &'c str) -> Statement<'c> {
        Statement { connection: self, sql }
    }

    /// Runs a statement. Returns how many rows it changed.
    pub fn execute(&self, sql: &str, params: impl Params) -> Result<usize, DbError> {
        self.prepare(sql).execute(params)
    }

    /// Reads one row. Fails with [`DbError::NoRow`] when there is none.
    pub fn query_row<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl FnOnce(&Row) -> Result<T, DbError>,
    ) -> Result<T, DbError> {
        self.prepare(sql).query_row(params, read)
    }

    /// Runs statements that take no values and whose answers are of no interest.
    pub fn execute_batch(&self, sql: &str) -> Result<(), DbError> {
        match &self.0 {
            Engine::Sqlite(connection) => Ok(connection.execute_batch(sql)?),
            Engine::Postgres(session) => session.execute_batch(sql),
        }
    }

    /// Copies rows into a table of PostgreSQL's: `feed` hands one after another to what it is given, in the order of `columns`.
    pub(crate) fn copy_in(
        &self,
        table: &str,
        columns: &str,
        mut feed: impl FnMut(&mut dyn FnMut(&[Value]) -> Result<(), DbError>) -> Result<(), DbError>,
    ) -> Result<u64, DbError> {
        match &self.0 {
            Engine::Sqlite(_) => Err(DbError::corrupt("a connection", "only PostgreSQL copies rows in")),
            Engine::Postgres(session) => session.copy_in(table, columns, &mut feed),
        }
    }

    /// Does work in a transaction of its own; all of it or, if it fails, nothing. In PostgreSQL no other writes meanwhile.
    pub(crate) fn transaction<T, E: From<DbError>>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, E>,
    ) -> Result<T, E> {
        match &self.0 {
            Engine::Sqlite(_) => self.execute_batch("BEGIN")?,
            Engine::Postgres(session) => session.begin("")?,
        }
        match work(self) {
            Ok(done) => {
                self.execute_batch("COMMIT")?;
                Ok(done)
            }
            Err(error) => {
                // The first error is the one to tell.
                let _ = self.execute_batch("ROLLBACK");
                Err(error)
            }
        }
    }

    /// Returns SQLite's connection, for what only SQLite has.
    pub(super) fn sqlite(&self) -> Option<&rusqlite::Connection> {
        match &self.0 {
            Engine::Sqlite(connection) => Some(connection),
            Engine::Postgres(_) => None,
        }
    }

    /// Returns PostgreSQL's session, for what only PostgreSQL has.
    pub(super) fn postgres(&self) -> Option<&Session> {
        match &self.0 {
            Engine::Sqlite(_) => None,
            Engine::Postgres(session) => Some(session),
        }
    }

    /// Returns why the connection is good no more, where it broke.
    pub(super) fn trouble(&self) -> Option<DbError> {
        self.postgres().and_then(Session::trouble)
    }

    /// Hands each row to `each`, until that says to stop.
    fn rows(&self, sql: &str, values: &[Value], each: &mut dyn FnMut(Row) -> Flow) -> Result<(), DbError> {
        match &self.0 {
            Engine::Sqlite(connection) => super::sqlite::rows(connection, sql, values, each),
            Engine::Postgres(session) => session.rows(sql, values, each),
        }
    }
}

/// A statement of a connection.
pub struct Statement<'c> {
    connection: &'c Connection,
    sql: &'c str,
}

impl Statement<'_> {
    /// Runs it. Returns how many rows it changed.
    pub fn execute(&self, params: impl Params) -> Result<usize, DbError> {
        let values = params.values();
        match &self.connection.0 {
            Engine::Sqlite(connection) => super::sqlite::execute(connection, self.sql, &values),
            Engine::Postgres(session) => session.execute(self.sql, &values),
        }
    }

    /// Reads one row, the first. Fails with [`DbError::NoRow`] when there is none.
    pub fn query_row<T>(
        &self,
        params: impl Params,
        read: impl FnOnce(&Row) -> Result<T, DbError>,
    ) -> Result<T, DbError> {
        let mut first = None;
        self.connection.rows(self.sql, &params.values(), &mut |row| {
            first = Some(row);
            Flow::Enough
        })?;
        read(&first.ok_or(DbError::NoRow)?)
    }

    /// Reads all rows.
    pub fn query_map<T>(
        &self,
        params: impl Params,
        mut read: impl FnMut(&Row) -> Result<T, DbError>,
    ) -> Result<std::vec::IntoIter<Result<T, DbError>>, DbError> {
        let mut all = Vec::new();
        self.connection.rows(self.sql, &params.values(), &mut |row| {
            all.push(read(&row));
            Flow::More
        })?;
        Ok(all.into_iter())
    }

    /// Hands each row to `each`, one at a time, until that fails.
    pub(crate) fn for_each(
        &self,
        params: impl Params,
        mut each: impl FnMut(Row) -> Result<(), DbError>,
    ) -> Result<(), DbError> {
        let mut outcome = Ok(());
        self.connection.rows(self.sql, &params.values(), &mut |row| {
            outcome = each(row);
            if outcome.is_ok() { Flow::More } else { Flow::Enough }
        })?;
        outcome
    }

    /// Returns whether there is any row.
    pub fn exists(&self, params: impl Params) -> Result<bool, DbError> {
        self.query_row(params, |_| Ok(())).optional().map(|found| found.is_some())
    }
}

/// Makes `None` of [`DbError::NoRow`].
pub trait OptionalExtension<T> {
    /// Returns `None` where there was no row.
    fn optional(self) -> Result<Option<T>, DbError>;
}

impl<T> OptionalExtension<T> for Result<T, DbError> {
    fn optional(self) -> Result<Option<T>, DbError> {
        match self {
            Ok(found) => Ok(Some(found)),
            Err(DbError::NoRow) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
