//! Tables of a file of SQLite's, as the file itself tells of them: none can be forgotten.

use super::error::MigrateError;
use crate::db::{Connection, DbError};

/// A table, its columns, and which of them are its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) name: String,
    pub(super) columns: Vec<String>,
    /// Columns of the key, in its order.
    pub(super) key: Vec<String>,
    /// Tables that it refers to.
    references: Vec<String>,
}

impl Table {
    /// Returns its name as statements have it.
    pub(super) fn quoted(&self) -> String {
        quoted(&self.name)
    }

    /// Returns its columns as statements have them.
    pub(super) fn columns(&self) -> String {
        list(&self.columns)
    }

    /// Returns the statement that reads all of it, in the order of its key: bytes count, in both databases.
    pub(super) fn select(&self) -> String {
        format!("SELECT {} FROM {} ORDER BY {}", self.columns(), self.quoted(), list(&self.key))
    }

    /// Returns an error with the table's name in it, where it is about what is in it.
    pub(super) fn named(&self, error: DbError) -> DbError {
        match error {
            DbError::Corrupt(place, why) => {
                DbError::Corrupt(place, format!("the table {}: {why}", self.name))
            }
            other => other,
        }
    }
}

fn list(names: &[String]) -> String {
    names.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ")
}

fn quoted(name: &str) -> String {
    format!("\"{name}\"")
}

/// Returns all tables of a file, each after those that it refers to.
pub(super) fn of(source: &Connection) -> Result<Vec<Table>, MigrateError> {
    let sql = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name";
    let names = texts(source, sql, "")?;
    in_order(names.into_iter().map(|name| table(source, name)).collect::<Result<_, _>>()?)
}

fn table(source: &Connection, name: String) -> Result<Table, MigrateError> {
    let columns = texts(source, "SELECT name FROM pragma_table_info(?) ORDER BY cid", &name)?;
    let key = texts(source, "SELECT name FROM pragma_table_info(?) WHERE pk > 0 ORDER BY pk", &name)?;
    let references = texts(source, "SELECT DISTINCT \"table\" FROM pragma_foreign_key_list(?)", &name)?;
    // Names go into statements.
    let is_plain = |name: &String| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    if key.is_empty() || !columns.iter().chain([&name]).all(is_plain) {
        return Err(MigrateError::Unlike(format!("the table {name:?} is none of Otaru's")));
    }
    Ok(Table { name, columns, key, references })
}

/// Reads texts; an empty `value` is no parameter.
fn texts(source: &Connection, sql: &str, value: &str) -> Result<Vec<String>, MigrateError> {
    let values = if value.is_empty() { vec![] } else { vec![value.into()] };
    let read = source.prepare(sql).query_map(values, |row| row.get(0)).and_then(Iterator::collect);
    read.map_err(MigrateError::Source)
}

/// Puts each table after those that it refers to.
fn in_order(mut rest: Vec<Table>) -> Result<Vec<Table>, MigrateError> {
    let mut ordered: Vec<Table> = Vec::with_capacity(rest.len());
    while !rest.is_empty() {
        let is_there = |name: &String| ordered.iter().any(|table| table.name == *name);
        let free = |table: &Table| table.references.iter().all(|name| *name == table.name || is_there(name));
        let (next, later): (Vec<_>, Vec<_>) = rest.into_iter().partition(free);
        if next.is_empty() {
            let names: Vec<_> = later.iter().map(|table| table.name.as_str()).collect();
            return Err(MigrateError::Unlike(format!("{} refer to each other", names.join(", "))));
        }
        ordered.extend(next);
        rest = later;
    }
    Ok(ordered)
}
