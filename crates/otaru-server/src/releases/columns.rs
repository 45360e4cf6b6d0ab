//! Values as columns have them.

use otaru_format::digest::Digest;
use otaru_rollout::Time;
use rusqlite::Row;

/// Returns a moment as a column has it.
pub(super) fn millis(time: Time) -> i64 {
    i64::try_from(time.0).unwrap_or(i64::MAX)
}

/// Reads a digest that may be missing.
pub(super) fn digest_at(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Digest>> {
    Ok(row.get::<_, Option<[u8; 32]>>(column)?.map(Digest))
}
