//! Notices: what all servers must hear soon, such as a credential that ended. Each is a row with a number, written with the change itself, so
//! that none is lost, whatever lies between a server and the database. Transactions that write wait for each other, so their order is
//! that of their numbers, and who has read one has read all before it.

use serde::{Deserialize, Serialize};

use crate::db::{Connection, DbError, Dialect, params};
use crate::rates::Passed;

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
        /// Devices.
        devices: Vec<String>,
        /// Rollouts.
        rollouts: Vec<u64>,
    },
    /// Counts that a server let pass under the fleet's limits.
    Passed(Passed),
}

/// What a server has not read yet.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct News {
    /// Number of the last one.
    pub last: i64,
    /// Whether some were lost: they were gone before they were read, or the database was restored.
    pub missed: bool,
    /// Notices of others, the oldest first, as far as this version knows them.
    pub notices: Vec<Notice>,
}

/// Writes a notice, in the transaction that changes what it is about. A database that only one server can have needs none. The row says by
/// itself who wrote it.
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

/// Returns what others wrote after a number. This server, whose writer is `me`, has done what its own say already, before anybody could
/// come with what is new.
pub fn after(tx: &Connection, me: &str, id: i64) -> Result<News, DbError> {
    let (first, newest): (Option<i64>, Option<i64>) =
        tx.query_row("SELECT min(id), max(id) FROM notices", (), |row| Ok((row.get(0)?, row.get(1)?)))?;
    let (first, newest) = (first.unwrap_or(id + 1), newest.unwrap_or(id));
    if first > id + 1 || newest < id {
        return Ok(News { last: newest, missed: true, notices: Vec::new() });
    }
    let rows = tx.prepare("SELECT id, notice, writer = ? FROM notices WHERE id > ? ORDER BY id LIMIT ?");
    let read = rows.query_map(params![me, id, BATCH], |row| {
        let notice = serde_json::from_str::<Notice>(&row.get::<String>(1)?).ok();
        Ok((row.get::<i64>(0)?, notice, row.get::<bool>(2)?))
    })?;
    let mut news = News { last: id, ..News::default() };
    for row in read {
        let (id, notice, is_own) = row?;
        news.last = id;
        news.notices.extend(notice.filter(|_| !is_own));
    }
    Ok(news)
}
