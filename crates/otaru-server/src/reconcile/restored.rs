//! After a backup was restored: numbers that were given away since it was made are not given away again.
//!
//! A device's report names the offer that it last followed. A rollout that got the same number anew would take what the device says of
//! the old one as said of the new one.

use crate::db::{Connection, DbError, Dialect, params};
use crate::rollouts::offer::rollout_in;

/// Largest step by which a device may lift the highest number: no device that lies makes numbers that nobody can read.
const FARTHEST: i64 = 10_000;

/// Lifts the number of the next rollout above that of the offer which a device names, and the order of the next offer above the
/// highest that it followed.
pub(super) fn lift_numbers(
    tx: &Connection,
    deployment: Option<&str>,
    order: Option<u64>,
) -> Result<(), DbError> {
    let rollout = deployment.and_then(rollout_in);
    let order = order.and_then(|order| i64::try_from(order).ok());
    if rollout.is_none() && order.is_none() {
        return Ok(());
    }
    if !tx.prepare("SELECT 1 FROM meta WHERE key = 'restored_at'").exists(())? {
        return Ok(());
    }
    for (table, named) in [("rollouts", rollout), ("outbox", order)] {
        if let Some(named) = named {
            lift(tx, table, named)?;
        }
    }
    Ok(())
}

/// Lets a table's next row have a number above this one.
fn lift(tx: &Connection, table: &str, named: i64) -> Result<(), DbError> {
    let last = last(tx, table)?;
    if last >= named || named - last > FARTHEST {
        return Ok(());
    }
    match tx.dialect() {
        Dialect::Sqlite => {
            tx.execute("DELETE FROM sqlite_sequence WHERE name = ?", [table])?;
            tx.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", params![table, named])?;
        }
        Dialect::Postgres => {
            let sql = "SELECT setval(pg_get_serial_sequence(?, 'id'), ?)";
            tx.query_row(sql, params![table, named], |row| row.get::<i64>(0))?;
        }
    }
    Ok(())
}

/// Returns the highest number that a table gave away.
fn last(tx: &Connection, table: &str) -> Result<i64, DbError> {
    let sql = match tx.dialect() {
        Dialect::Sqlite => "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = ?), 0)",
        Dialect::Postgres => {
            "SELECT coalesce(pg_sequence_last_value(CAST(pg_get_serial_sequence(?, 'id') AS regclass)), 0)"
        }
    };
    tx.query_row(sql, [table], |row| row.get(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::Db;

    #[tokio::test]
    async fn numbers_go_on_above_what_devices_name() {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(&dir.path().join("otaru.db")).unwrap();
        let lifted = async |table: &'static str, named: Option<&'static str>, order: Option<u64>| {
            db.write(move |tx| {
                lift_numbers(tx, named, order)?;
                last(tx, table)
            })
            .await
            .unwrap()
        };
        let next = async |named: &'static str| lifted("rollouts", Some(named), None).await;
        let next_order = async |order: u64| lifted("outbox", None, Some(order)).await;
        assert_eq!(next("r17.2").await, 0, "nothing was restored");
        assert_eq!(next_order(400).await, 0, "nothing was restored");
        db.write(|tx| tx.execute("INSERT INTO meta VALUES ('restored_at', '1')", ())).await.unwrap();
        assert_eq!(next("r17.2").await, 17);
        assert_eq!(next("r9.1").await, 17, "never back");
        assert_eq!(next("r9223372036854775807.1").await, 17, "nobody lifts them out of reach");
        assert_eq!(next_order(400).await, 400);
        assert_eq!(next_order(7).await, 400, "never back");
        assert_eq!(next_order(u64::MAX).await, 400, "nobody lifts them out of reach");
    }
}
