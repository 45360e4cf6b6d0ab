//! Brings a database to the present schema, one numbered step after another.

use rusqlite::Connection;

use crate::db::error::DbError;

/// Each step brings the schema from its index to the next number; what was released is never changed.
const STEPS: &[&str] = &[
    include_str!("schema.sql"),
    include_str!("sessions.sql"),
    include_str!("sequences.sql"),
    include_str!("claims.sql"),
    include_str!("brought.sql"),
    include_str!("registration.sql"),
    include_str!("names.sql"),
    include_str!("epochs.sql"),
    include_str!("came_with.sql"),
    include_str!("certificates.sql"),
    include_str!("columns.sql"),
    include_str!("shards.sql"),
    include_str!("clocks.sql"),
    include_str!("../lists.sql"),
    include_str!("../polled.sql"),
    include_str!("brokers.sql"),
];

/// The steps that are missing.
fn missing(connection: &Connection) -> Result<(i64, &'static [&'static str]), DbError> {
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let done = usize::try_from(version).map_err(|_| DbError::corrupt("user_version", version))?;
    Ok((version, STEPS.get(done..).ok_or(DbError::Newer(version))?))
}

/// Fails if the schema is of a later version.
pub(in crate::db) fn is_not_newer(connection: &Connection) -> Result<(), DbError> {
    missing(connection).map(drop)
}

/// Remedy for a file without tables. Of a server that runs the newest pages are in the log beside it, and of a new one all.
const NO_FLEET: &str = "start the server with it once; if it is a copy, stop the server and copy the file again, since the `-wal` file \
                        beside it is a part of it, or restore what `otaru backup` wrote";

/// Fails unless the schema is the present one.
pub(in crate::db) fn is_present(connection: &Connection) -> Result<(), DbError> {
    match missing(connection)? {
        (_, []) => Ok(()),
        (0, _) => Err(DbError::NoFleet(NO_FLEET)),
        (version, _) => Err(DbError::Older(version)),
    }
}

/// Runs the steps that are missing, all or none.
pub(in crate::db) fn run(connection: &mut Connection) -> Result<(), DbError> {
    let tx = connection.transaction()?;
    for step in missing(&tx)?.1 {
        tx.execute_batch(step)?;
    }
    tx.pragma_update(None, "user_version", i64::try_from(STEPS.len()).unwrap_or(i64::MAX))?;
    tx.commit()?;
    Ok(())
}
