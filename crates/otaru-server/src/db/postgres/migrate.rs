//! Brings a database to the present schema, one numbered step after another. Servers that start at the same time wait for each other.

use super::session::Session;
use crate::db::error::DbError;
use crate::db::value::{Flow, FromValue as _, Value};

/// The schema's number that the first step brings an empty database to: SQLite's steps have the same numbers.
const FIRST: i64 = 11;

/// Each step brings the schema to the next number; what was released is never changed. A step fits the program before it.
const STEPS: &[&str] = &[
    include_str!("schema.sql"),
    include_str!("cluster.sql"),
    include_str!("clocks.sql"),
    include_str!("../lists.sql"),
    include_str!("../polled.sql"),
    include_str!("brokers.sql"),
];

/// Number of the present schema.
fn present() -> i64 {
    FIRST - 1 + i64::try_from(STEPS.len()).unwrap_or(i64::MAX)
}

/// Returns the number of the schema that is there.
fn version(session: &Session) -> Result<Option<i64>, DbError> {
    let is_there = number(session, "SELECT count(*) FROM pg_class WHERE oid = to_regclass('otaru_schema')")?;
    match is_there {
        Some(1) => number(session, "SELECT version FROM otaru_schema"),
        _ => Ok(None),
    }
}

/// Reads one text, if there is one.
fn text(session: &Session, sql: &str) -> Result<Option<String>, DbError> {
    let mut found = None;
    session.rows(sql, &[], &mut |row| {
        found = row.values().first().map(String::from_value);
        Flow::Enough
    })?;
    found.transpose()
}

/// Reads one number, if there is one.
fn number(session: &Session, sql: &str) -> Result<Option<i64>, DbError> {
    let mut found = None;
    session.rows(sql, &[], &mut |row| {
        found = row.values().first().map(i64::from_value);
        Flow::Enough
    })?;
    found.transpose()
}

/// Fails unless the schema is the present one.
pub(in crate::db) fn is_present(session: &Session) -> Result<(), DbError> {
    match version(session)?.unwrap_or(0) {
        0 => Err(DbError::NoFleet("start a server with it once, or name the database that has one")),
        version if version < present() => Err(DbError::Older(version)),
        version if version > present() => Err(DbError::Newer(version)),
        _ => Ok(()),
    }
}

/// Runs the steps that are missing, all or none.
pub(in crate::db) fn run(session: &Session) -> Result<(), DbError> {
    session.begin("")?;
    match within(session) {
        Ok(()) => session.execute_batch("COMMIT"),
        Err(error) => {
            // The first error is the one to tell.
            let _ = session.execute_batch("ROLLBACK");
            Err(error)
        }
    }
}

/// Keeps others from writing, and so from running steps, until the transaction that is open ends.
pub(in crate::db) fn lock(session: &Session) -> Result<(), DbError> {
    session.lock()
}

/// Runs the steps that are missing, in the transaction that is open.
pub(in crate::db) fn within(session: &Session) -> Result<(), DbError> {
    lock(session)?;
    let encoding = text(
        session,
        "SELECT pg_encoding_to_char(encoding)::text FROM pg_database WHERE datname = current_database()",
    )?;
    if encoding.as_deref() != Some("UTF8") {
        return Err(DbError::Postgres(format!(
            "the encoding of this database is {}, and it has to be UTF8: createdb --encoding UTF8 --template template0 makes one",
            encoding.unwrap_or_default()
        )));
    }
    let version = version(session)?;
    if version.is_none() {
        session.execute_batch("CREATE TABLE otaru_schema (version BIGINT NOT NULL)")?;
        session.execute("INSERT INTO otaru_schema (version) VALUES (?)", &[Value::Integer(FIRST - 1)])?;
    }
    let done = usize::try_from(version.unwrap_or(FIRST - 1) - (FIRST - 1)).unwrap_or(0);
    let Some(missing) = STEPS.get(done..) else { return Err(DbError::Newer(version.unwrap_or(0))) };
    for step in missing {
        session.execute_batch(step)?;
    }
    session.execute("UPDATE otaru_schema SET version = ?", &[Value::Integer(present())])?;
    Ok(())
}
