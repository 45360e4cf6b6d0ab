//! After a backup was restored: numbers that were given away since it was made are not given away again.
//!
//! A device's report names the offer that it last followed. A rollout that got the same number anew would take what the device says of
//! the old one as said of the new one.

use rusqlite::{Connection, params};

use crate::db::DbError;
use crate::rollouts::offer::rollout_in;

/// Largest step by which a device may lift the highest number: no device that lies makes numbers that nobody can read.
const FARTHEST: i64 = 10_000;

/// Lifts the number of the next rollout above one that a device names.
pub(super) fn lift_numbers(tx: &Connection, deployment: Option<&str>) -> Result<(), DbError> {
    let Some(named) = deployment.and_then(rollout_in) else { return Ok(()) };
    let restored = tx.prepare_cached("SELECT 1 FROM meta WHERE key = 'restored_at'")?.exists([])?;
    if !restored {
        return Ok(());
    }
    tx.prepare_cached(
        "INSERT INTO sqlite_sequence (name, seq) SELECT 'rollouts', 0
         WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'rollouts')",
    )?
    .execute([])?;
    let sql = "UPDATE sqlite_sequence SET seq = ?1 WHERE name = 'rollouts' AND seq < ?1 AND ?1 - seq <= ?2";
    tx.prepare_cached(sql)?.execute(params![named, FARTHEST])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::Db;

    #[tokio::test]
    async fn numbers_go_on_above_what_devices_name() {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(&dir.path().join("otaru.db")).unwrap();
        let next = async |named: &'static str| {
            db.write(move |tx| {
                lift_numbers(tx, Some(named))?;
                let sql = "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'rollouts'), 0)";
                Ok::<i64, DbError>(tx.query_row(sql, [], |row| row.get(0))?)
            })
            .await
            .unwrap()
        };
        assert_eq!(next("r17.2").await, 0, "nothing was restored");
        db.write(|tx| Ok::<_, DbError>(tx.execute("INSERT INTO meta VALUES ('restored_at', '1')", [])?))
            .await
            .unwrap();
        assert_eq!(next("r17.2").await, 17);
        assert_eq!(next("r9.1").await, 17, "never back");
        assert_eq!(next("r9223372036854775807.1").await, 17, "nobody lifts them out of reach");
    }
}
