//! Brings a database to the present schema, one numbered step after another.

use rusqlite::Connection;

use super::DbError;

/// Each step brings the schema from its index to the next number; what was released is never changed.
const STEPS: &[&str] = &[
    include_str!("schema.sql"),
    include_str!("sessions.sql"),
    include_str!("sequences.sql"),
    include_str!("claims.sql"),
    include_str!("names.sql"),
];

/// Runs the steps that are missing, all or none.
pub(super) fn run(connection: &mut Connection) -> Result<(), DbError> {
    let tx = connection.transaction()?;
    let version: i64 = tx.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let done = usize::try_from(version).map_err(|_| DbError::corrupt("user_version", version))?;
    let missing = STEPS.get(done..).ok_or(DbError::Newer(version))?;
    for step in missing {
        tx.execute_batch(step)?;
    }
    tx.pragma_update(None, "user_version", i64::try_from(STEPS.len()).unwrap_or(i64::MAX))?;
    tx.commit()?;
    Ok(())
}
