//! Values as columns have them.

use otaru_format::digest::Digest;
use otaru_rollout::Time;

use crate::db::DbError;
use crate::db::Row;

/// Returns a moment as a column has it.
pub(super) fn millis(time: Time) -> i64 {
    i64::try_from(time.0).unwrap_or(i64::MAX)
}

/// Reads a digest that may be missing.
pub(super) fn digest_at(row: &Row, column: usize) -> Result<Option<Digest>, DbError> {
    Ok(row.get::<Option<[u8; 32]>>(column)?.map(Digest))
}
