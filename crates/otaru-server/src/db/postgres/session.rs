//! A session of one thread: statements, and transactions that write one at a time.

use std::cell::{RefCell, RefMut};
use std::collections::HashMap;

use postgres::Client;
use postgres::binary_copy::BinaryCopyInWriter;
use postgres::fallible_iterator::FallibleIterator as _;
use postgres::types::{ToSql, Type};

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
    client: RefCell<Option<Client>>,
    prepared: RefCell<HashMap<String, postgres::Statement>>,
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
    pub(super) fn new(client: Client) -> Self {
        Self { client: RefCell::new(Some(client)), prepared: RefCell::default() }
    }

    fn client(&self) -> Result<RefMut<'_, Client>, DbError> {
        // Only a statement within the reading of another's rows would find it in use.
        let client = self.client.try_borrow_mut().map_err(|error| DbError::corrupt("a session", error))?;
        RefMut::filter_map(client, Option::as_mut).map_err(|_| DbError::Closed)
    }

    fn prepared(&self, client: &mut Client, sql: &str) -> Result<postgres::Statement, DbError> {
        let mut prepared = self.prepared.borrow_mut();
        if let Some(statement) = prepared.get(sql) {
            return Ok(statement.clone());
        }
        if prepared.len() >= PREPARED {
            prepared.clear();
        }
        let statement = client.prepare(&placeholders::numbered(sql))?;
        prepared.insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }

    /// Runs a statement. Returns how many rows it changed.
    pub(in crate::db) fn execute(&self, sql: &str, values: &[Value]) -> Result<usize, DbError> {
        let mut client = self.client()?;
        let statement = self.prepared(&mut client, sql)?;
        let values: Vec<&(dyn ToSql + Sync)> = values.iter().map(|value| value as _).collect();
        let changed = client.execute(&statement, &values)?;
        Ok(usize::try_from(changed).unwrap_or(usize::MAX))
    }

    /// Hands each row of an answer to `each`, until that says to stop.
    pub(in crate::db) fn rows(
        &self,
        sql: &str,
        values: &[Value],
        each: &mut dyn FnMut(Row) -> Flow,
    ) -> Result<(), DbError> {
        let mut client = self.client()?;
        let statement = self.prepared(&mut client, sql)?;
        let mut rows = client.query_raw(&statement, values)?;
        while let Some(row) = rows.next()? {
            if each(values::row(&row)?) == Flow::Enough {
                break;
            }
        }
        Ok(())
    }

    /// Copies rows into a table: `feed` hands one after another to what it is given. Returns how many there were.
    pub(in crate::db) fn copy_in(&self, table: &str, columns: &str, feed: Feed<'_>) -> Result<u64, DbError> {
        let mut client = self.client()?;
        let shape = client.prepare(&format!("SELECT {columns} FROM {table}"))?;
        let types: Vec<Type> = shape.columns().iter().map(|column| column.type_().clone()).collect();
        let copy = client.copy_in(&format!("COPY {table} ({columns}) FROM STDIN BINARY"))?;
        let mut copy = BinaryCopyInWriter::new(copy, &types);
        feed(&mut |values| match values.len() == types.len() {
            true => Ok(copy.write_raw(values)?),
            false => Err(DbError::corrupt("a row", "it has other columns than the table")),
        })?;
        Ok(copy.finish()?)
    }

    /// Runs statements without values.
    pub(in crate::db) fn execute_batch(&self, sql: &str) -> Result<(), DbError> {
        Ok(self.client()?.batch_execute(sql)?)
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

    /// Returns whether the session is at its end.
    pub(in crate::db) fn is_closed(&self) -> bool {
        self.client().is_ok_and(|client| client.is_closed())
    }
}

/// The client waits for the end of its session, which nobody may do who drives asynchronous tasks.
impl Drop for Session {
    fn drop(&mut self) {
        if let Some(client) = self.client.get_mut().take() {
            std::thread::spawn(move || drop(client));
        }
    }
}
