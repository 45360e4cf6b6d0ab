//! Logins: of a server, once more for each of its sessions, and the first of a process.

use std::time::Duration;

use super::line::Line;
use super::pooled;
use super::session::Session;
use super::settings::PostgresSettings;
use crate::db::error::DbError;

/// Time that a statement of a server may take: PostgreSQL ends it then.
const STATEMENT: Duration = Duration::from_secs(60);

/// Set in each session. A transaction that writes holds a lock that others wait for, so one whose server stands still is ended by
/// PostgreSQL.
const SETTINGS: &str = "SET idle_in_transaction_session_timeout = '3s'; SET lock_timeout = '20s'";

/// Logs in, as a server does once more for each of its sessions. No statement takes longer than [`STATEMENT`].
pub(in crate::db) fn connect(settings: &PostgresSettings) -> Result<Session, DbError> {
    let session = Session::new(Line::open(settings, Some(STATEMENT))?);
    session.execute_batch(SETTINGS)?;
    session.execute_batch(&format!("SET statement_timeout = {}", STATEMENT.as_millis()))?;
    Ok(session)
}

/// Logs in for the first time, for work that takes as long as it takes. Fails where sessions are none.
pub(in crate::db) fn log_in(settings: &PostgresSettings) -> Result<Session, DbError> {
    let open = || Line::open(settings, None).map(Session::new);
    let session = open()?;
    pooled::refuse(&session, open)?;
    session.execute_batch(SETTINGS)?;
    Ok(session)
}
