//! SQLite in WAL mode: one file on this machine.

mod migrate;
mod open;

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{ToSql, params_from_iter};

use super::error::DbError;
use super::value::{Flow, Row, Value};

pub(super) use migrate::{is_not_newer, is_present, run as migrate};
pub(super) use open::{checkpoint, connect, read_only};

/// Begins a transaction that writes.
pub(super) const BEGIN: &str = "BEGIN IMMEDIATE";

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Integer(number) => ValueRef::Integer(*number),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Blob(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

/// Runs a statement. Returns how many rows it changed.
pub(super) fn execute(
    connection: &rusqlite::Connection,
    sql: &str,
    values: &[Value],
) -> Result<usize, DbError> {
    Ok(connection.prepare_cached(sql)?.execute(params_from_iter(values))?)
}

/// Hands each row of an answer to `each`, until that says to stop.
pub(super) fn rows(
    connection: &rusqlite::Connection,
    sql: &str,
    values: &[Value],
    each: &mut dyn FnMut(Row) -> Flow,
) -> Result<(), DbError> {
    let mut statement = connection.prepare_cached(sql)?;
    let columns = statement.column_count();
    let mut rows = statement.query(params_from_iter(values))?;
    while let Some(row) = rows.next()? {
        let values = (0..columns).map(|column| value(row.get_ref(column)?)).collect::<Result<_, _>>()?;
        if each(Row(values)) == Flow::Enough {
            break;
        }
    }
    Ok(())
}

fn value(column: ValueRef<'_>) -> Result<Value, DbError> {
    Ok(match column {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => Value::Integer(number),
        ValueRef::Real(number) => return Err(DbError::corrupt("a column", format!("the fraction {number}"))),
        ValueRef::Text(text) => Value::Text(
            std::str::from_utf8(text).map_err(|error| DbError::corrupt("a column", error))?.to_owned(),
        ),
        ValueRef::Blob(bytes) => Value::Blob(bytes.to_vec()),
    })
}
