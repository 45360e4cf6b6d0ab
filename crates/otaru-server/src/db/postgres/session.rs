//! A session of one thread: statements, and transactions that write one at a time.

use std::cell::{RefCell, RefMut};
use std::collections::HashMap;

use postgres::binary_copy::BinaryCopyInWriter;
use postgres::fallible_iterator::FallibleIterator as _;
use postgres::types::{ToSql, Type};
use postgres::{Client, SimpleQueryMessage};

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

/// Number of a transaction, by which can be found out later whether it took place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::db) struct TransactionId(String);

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
    pub(in crate::db) fn begin(&self) -> Result<TransactionId, DbError> {
        let sql = format!("BEGIN; SELECT pg_advisory_xact_lock({WRITER}); SELECT pg_current_xact_id()");
        let answers = self.client()?.simple_query(&sql)?;
        let id = answers.iter().rev().find_map(|answer| match answer {
            SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        });
        id.map(TransactionId).ok_or_else(|| DbError::corrupt("pg_current_xact_id", "no answer"))
    }

    /// Returns whether a transaction took place whose COMMIT got no answer; waits while it is under way.
    pub(in crate::db) fn took_place(&self, id: &TransactionId) -> Result<bool, DbError> {
        let sql = format!("SELECT coalesce(pg_xact_status('{}'::xid8), '')", id.0);
        loop {
            match self.client()?.query_one(&sql, &[])?.try_get(0)? {
                "in progress" => std::thread::sleep(std::time::Duration::from_millis(50)),
                status => return Ok(status == "committed"),
            }
        }
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
