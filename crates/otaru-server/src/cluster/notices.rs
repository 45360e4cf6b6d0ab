//! Notices: what all servers must hear soon, such as a credential that ended. Each is a row with a number, written with the change itself, so
//! that none is lost, whatever lies between a server and the database. Transactions that write wait for each other, so their order is
//! that of their numbers, and who has read one has read all before it.

use serde::{Deserialize, Serialize};

use crate::db::{Connection, DbError, Dialect, params};

/// Notices that are kept: those of some minutes of a large fleet.
const KEPT: i64 = 10_000;
/// Notices that are read at once.
const BATCH: i64 = 500;

/// Something that all servers must hear.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Notice {
    /// A token ended.
    Token(String),
    /// Devices have other logins from now on, or none.
    Devices(Vec<String>),
    /// A device is retired.
    Retired(String),
    /// Something changed that a server tells those who watch.
    Changed {
        /// Id of the server.
        by: String,
        /// Devices.
        devices: Vec<String>,
        /// Rollouts.
        rollouts: Vec<u64>,
    },
}

/// Writes a notice, in the transaction that changes what it is about. A database that only one server can have needs none.
pub fn write(tx: &Connection, notice: &Notice) -> Result<(), DbError> {
    if tx.dialect() == Dialect::Sqlite {
        return Ok(());
    }
    let text = serde_json::to_string(notice).map_err(|error| DbError::corrupt("notices", error))?;
    let id: i64 =
        tx.query_row("INSERT INTO notices (notice) VALUES (?) RETURNING id", [text], |row| row.get(0))?;
    tx.execute("DELETE FROM notices WHERE id <= ?", [id - KEPT])?;
    Ok(())
}

/// Returns the number of the last one.
pub fn last(tx: &Connection) -> Result<i64, DbError> {
    tx.query_row("SELECT coalesce(max(id), 0) FROM notices", (), |row| row.get(0))
}

/// Returns those after a number, the oldest first, as far as this version knows them.
pub fn after(tx: &Connection, id: i64) -> Result<Vec<(i64, Option<Notice>)>, DbError> {
    let rows = tx.prepare("SELECT id, notice FROM notices WHERE id > ? ORDER BY id LIMIT ?");
    let read = rows.query_map(params![id, BATCH], |row| {
        Ok((row.get(0)?, serde_json::from_str(&row.get::<String>(1)?).ok()))
    });
    read?.collect()
}
