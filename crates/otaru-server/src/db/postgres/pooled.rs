//! Refusal of pools in front of PostgreSQL, such as pgbouncer, that give each transaction the session of another.
//!
//! Otaru's settings of a session, and statements that it prepares, would be other clients' there, and gone for itself.

use super::session::Session;
use crate::db::error::DbError;

/// Sessions beside the first that are asked for: a pool hands out those that it has in turn.
const OTHERS: usize = 3;

/// Fails unless a session is one process of PostgreSQL's from one transaction to the next. Others, which `open` opens, keep a transaction
/// open meanwhile: a pool has nothing left then but to give one of the two another process than before.
pub(super) fn refuse(session: &Session, open: impl Fn() -> Result<Session, DbError>) -> Result<(), DbError> {
    let own = session.process()?;
    let mut others = Vec::new();
    for _ in 0..OTHERS {
        let other = open()?;
        match other.execute_batch("BEGIN") {
            // A pool of statements shows whoever begins a transaction the door.
            Err(DbError::Unavailable(_)) if session.process().is_ok() => return Err(DbError::Pooled),
            begun => begun?,
        }
        if other.process()? == own {
            return Err(DbError::Pooled);
        }
        others.push(other);
        if session.process()? != own {
            return Err(DbError::Pooled);
        }
    }
    Ok(())
}
