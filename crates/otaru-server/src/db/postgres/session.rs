//! A session of one thread: statements, and transactions that write one at a time.

use std::cell::{RefCell, RefMut};
use std::collections::HashMap;

use futures_util::TryStreamExt as _;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, SimpleQueryMessage, Statement};

use super::line::Line;
use super::{placeholders, values};
use crate::db::error::DbError;
use crate::db::value::{Flow, Row, Value};

/// Prepared statements that a session keeps; beyond that many all are forgotten.
const PREPARED: usize = 256;

/// Number of the advisory lock that a transaction holds which writes: "otaru" in ASCII.
const WRITER: i64 = 0x006f_7461_7275;

/// Hands rows to what it is given, one after another, until that fails.
pub(in crate::db) type Feed<'f> =
    &'f mut dyn FnMut(&mut dyn FnMut(&[Value]) -> Result<(), DbError>) -> Result<(), DbError>;

/// A session of one thread.
pub struct Session {
    /// There until it is dropped.
    line: RefCell<Option<Line>>,
    prepared: RefCell<HashMap<String, Statement>>,
    /// Why it is good no more.
    trouble: RefCell<Option<DbError>>,
}

/// Mark of a transaction: of a writer, by a number that it gives to no other.
///
/// A number of PostgreSQL's own will not do: after a crash it gives those again that had not reached its disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::db) struct Mark {
    /// The writer's id: of hexadecimal digits.
    pub(in crate::db) writer: String,
    /// The number.
    pub(in crate::db) number: i64,
}

impl Session {
    pub(super) fn new(line: Line) -> Self {
        Self { line: RefCell::new(Some(line)), prepared: RefCell::default(), trouble: RefCell::default() }
    }

    fn line(&self) -> Result<RefMut<'_, Line>, DbError> {
        // Only a statement within the reading of another's rows would find it in use.
        let line = self.line.try_borrow_mut().map_err(|error| DbError::corrupt("a session", error))?;
        RefMut::filter_map(line, Option::as_mut).map_err(|_| DbError::Closed)
    }

    /// Asks something, and notes whether the session is good for more afterwards.
    fn ask<T>(&self, asking: impl AsyncFnOnce(&Client) -> Result<T, DbError>) -> Result<T, DbError> {
        let answered = self.line()?.ask(asking);
        if let Err(error) = &answered
            && error.spoils_session()
        {
            // The first error is the one that others follow from.
            self.trouble.borrow_mut().get_or_insert_with(|| error.for_one_more());
        }
        answered
    }

    /// Returns why the session is good no more: it broke, or no longer is what it was when statements were prepared.
    pub(in crate::db) fn trouble(&self) -> Option<DbError> {
        self.trouble.borrow().as_ref().map(DbError::for_one_more)
    }

    async fn prepared(&self, client: &Client, sql: &str) -> Result<Statement, DbError> {
        if let Some(statement) = self.prepared.borrow().get(sql) {
            return Ok(statement.clone());
        }
        let statement = client.prepare(&placeholders::numbered(sql)).await?;
        let mut prepared = self.prepared.borrow_mut();
        if prepared.len() >= PREPARED {
            prepared.clear();
        }
        prepared.insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }

    /// Runs a statement. Returns how many rows it changed.
    pub(in crate::db) fn execute(&self, sql: &str, values: &[Value]) -> Result<usize, DbError> {
        let values: Vec<&(dyn ToSql + Sync)> = values.iter().map(|value| value as _).collect();
        let changed = self.ask(async |client| {
            let statement = self.prepared(client, sql).await?;
            Ok(client.execute(&statement, &values).await?)
        });
        Ok(usize::try_from(changed?).unwrap_or(usize::MAX))
    }

    /// Hands each row of an answer to `each`, until that says to stop.
    pub(in crate::db) fn rows(
        &self,
        sql: &str,
        values: &[Value],
        each: &mut dyn FnMut(Row) -> Flow,
    ) -> Result<(), DbError> {
        self.ask(async |client| {
            let statement = self.prepared(client, sql).await?;
            let mut rows = std::pin::pin!(client.query_raw(&statement, values).await?);
            while let Some(row) = rows.try_next().await? {
                if each(values::row(&row)?) == Flow::Enough {
                    break;
                }
            }
            Ok(())
        })
    }

    /// Copies rows into a table: `feed` hands one after another to what it is given. Returns how many there were.
    pub(in crate::db) fn copy_in(&self, table: &str, columns: &str, feed: Feed<'_>) -> Result<u64, DbError> {
        let (mut copy, count) = self.ask(async |client| {
            let shape = client.prepare(&format!("SELECT {columns} FROM {table}")).await?;
            let types: Vec<Type> = shape.columns().iter().map(|column| column.type_().clone()).collect();
            let copy = client.copy_in(&format!("COPY {table} ({columns}) FROM STDIN BINARY")).await?;
            Ok((Box::pin(BinaryCopyInWriter::new(copy, &types)), types.len()))
        })?;
        feed(&mut |values| match values.len() == count {
            true => self.ask(async |_| Ok(copy.as_mut().write_raw(values).await?)),
            false => Err(DbError::corrupt("a row", "it has other columns than the table")),
        })?;
        self.ask(async |_| Ok(copy.as_mut().finish().await?))
    }

    /// Runs statements without values.
    pub(in crate::db) fn execute_batch(&self, sql: &str) -> Result<(), DbError> {
        self.ask(async |client| Ok(client.batch_execute(sql).await?))
    }

    /// Returns the number of the process that answers. Nothing is prepared for it: a pool might not know that a moment later.
    pub(super) fn process(&self) -> Result<String, DbError> {
        let answer = self.ask(async |client| Ok(client.simple_query("SELECT pg_backend_pid()").await?))?;
        let number = answer.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0),
            _ => None,
        });
        number.map(str::to_owned).ok_or(DbError::NoRow)
    }

    /// Begins a transaction that writes. Only one writes at a time, whichever server it is of: others wait here.
    /// What is written says by itself which `writer`, an id of hexadecimal digits, it is of.
    pub(in crate::db) fn begin(&self, writer: &str) -> Result<(), DbError> {
        self.execute_batch(&format!(
            "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SELECT pg_advisory_xact_lock({WRITER});
             SELECT set_config('otaru.writer', '{writer}', TRUE)"
        ))
    }

    /// Has the transaction that is open be the one that writes, until it ends.
    pub(super) fn lock(&self) -> Result<(), DbError> {
        self.execute_batch(&format!("SELECT pg_advisory_xact_lock({WRITER})"))
    }

    /// Ends it, with a mark of its own by which can be found out whether it took place.
    pub(in crate::db) fn commit(&self, mark: &Mark) -> Result<(), DbError> {
        let Mark { writer, number } = mark;
        self.execute_batch(&format!(
            "INSERT INTO commits (writer, mark) VALUES ('{writer}', {number})
             ON CONFLICT (writer) DO UPDATE SET mark = EXCLUDED.mark, at = EXCLUDED.at; COMMIT"
        ))
    }

    /// Returns whether a transaction took place whose COMMIT got no answer. One that is under way still has the lock that this waits for.
    pub(in crate::db) fn took_place(&self, mark: &Mark) -> Result<bool, DbError> {
        self.begin(&mark.writer)?;
        let mut found = false;
        let sql = "SELECT 1 FROM commits WHERE writer = ? AND mark = ?";
        let looked =
            self.rows(sql, &[Value::Text(mark.writer.clone()), Value::Integer(mark.number)], &mut |_| {
                found = true;
                Flow::Enough
            });
        self.execute_batch(
            "DELETE FROM commits WHERE at < extract(epoch FROM now()) * 1000 - 604800000; COMMIT",
        )?;
        looked.map(|()| found)
    }
}

/// The line is ended in order, and waited for, which nobody may do who drives asynchronous tasks.
impl Drop for Session {
    fn drop(&mut self) {
        if let Some(line) = self.line.get_mut().take() {
            std::thread::spawn(move || line.end());
        }
    }
}
