//! Bounds of tables that grow by themselves.
//!
//! Devices, releases, rollouts and their deployments are what the server is for: they stay until somebody removes them.

use crate::db::{Connection, params};
use otaru_rollout::{Span, Time};

use super::error::DbError;

/// Entries of the audit log.
pub const AUDIT: i64 = 200_000;
/// Events of rollouts, of all together.
pub const ROLLOUT_EVENTS: i64 = 200_000;
/// Jobs that are over.
pub const JOBS: i64 = 10_000;
/// Answers to requests with an `Idempotency-Key`; besides, none is kept for longer than a day.
pub const ANSWERS: i64 = 50_000;
/// Time for which tokens and fleet keys stay listed after they end.
pub const ENDED: Span = Span::hours(400 * 24);

/// Removes what is more than is kept.
pub fn prune(tx: &Connection, now: Time) -> Result<(), DbError> {
    // Ids of these only rise, and what is oldest goes first.
    for (table, kept, more) in [
        ("audit", AUDIT, ""),
        ("rollout_events", ROLLOUT_EVENTS, ""),
        ("jobs", JOBS, "AND state IN ('done', 'failed')"),
    ] {
        let sql = format!("DELETE FROM {table} WHERE id <= (SELECT max(id) FROM {table}) - ? {more}");
        tx.prepare(&sql).execute([kept])?;
    }
    let sql = "DELETE FROM idempotency WHERE at <
                 (SELECT at FROM idempotency ORDER BY at DESC LIMIT 1 OFFSET ?)";
    tx.prepare(sql).execute([ANSWERS - 1])?;
    let before = now.0.saturating_sub(ENDED.0).cast_signed();
    let ended = "(revoked_at < ?1 OR expires_at < ?1)";
    tx.prepare(&format!("DELETE FROM sessions WHERE token IN (SELECT id FROM tokens WHERE {ended})"))
        .execute([before])?;
    tx.prepare(&format!("DELETE FROM tokens WHERE {ended}")).execute([before])?;
    tx.prepare(
        "DELETE FROM fleet_keys WHERE revoked_at < ? AND id NOT IN
           (SELECT fleet_key FROM devices WHERE fleet_key IS NOT NULL
            UNION SELECT came_with FROM devices WHERE came_with IS NOT NULL)",
    )
    .execute(params![before])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::Db;

    const NOW: Time = Time(1_800_000_000_000);

    /// As many rows as this, numbered by `n`.
    fn fill(tx: &Connection, count: i64, insert: &str) {
        let sql = format!(
            "WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < {count}) {insert}"
        );
        tx.execute_batch(&sql).unwrap();
    }

    fn count(tx: &Connection, table: &str) -> i64 {
        tx.query_row(&format!("SELECT count(*) FROM {table}"), (), |row| row.get(0)).unwrap()
    }

    #[test]
    fn no_table_grows_without_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("otaru.db");
        drop(Db::open(&path).unwrap());
        let tx = Connection::open(&path).unwrap();
        tx.execute_batch(
            "BEGIN;
             INSERT INTO artifacts (digest, size, used_at) VALUES (zeroblob(32), 1, 1);
             INSERT INTO releases (image, product, version, chip, image_size, raw, created_at, created_by)
               VALUES (zeroblob(32), 'p', '1', 'c', 1, zeroblob(32), 1, 'x');
             INSERT INTO rollouts (name, state, phase, is_open, is_alive, created_at, created_by, updated_at)
               VALUES ('r', '{}', 'running', 1, 1, 1, 'x', 1);",
        )
        .unwrap();
        fill(&tx, AUDIT + 50, "INSERT INTO audit (at, actor, action, object) SELECT n, 'a', 'b', 'c' FROM c");
        fill(
            &tx,
            ROLLOUT_EVENTS + 50,
            "INSERT INTO rollout_events (rollout, at, event) SELECT 1, n, '{}' FROM c",
        );
        fill(
            &tx,
            1,
            "INSERT INTO jobs (release, kind, state, created_at) SELECT 1, 'build', 'queued', n FROM c",
        );
        fill(
            &tx,
            JOBS + 50,
            "INSERT INTO jobs (release, kind, state, created_at) SELECT 1, 'build', 'done', n FROM c",
        );
        fill(
            &tx,
            ANSWERS + 50,
            "INSERT INTO idempotency (actor, key, request, status, body, at) SELECT 'a', n, x'00', 201, '', n FROM c",
        );
        prune(&tx, NOW).unwrap();
        assert_eq!(count(&tx, "audit"), AUDIT);
        assert_eq!(count(&tx, "rollout_events"), ROLLOUT_EVENTS);
        assert_eq!(count(&tx, "jobs"), JOBS + 1, "one that is not over stays");
        assert_eq!(count(&tx, "idempotency"), ANSWERS);
        let oldest: i64 = tx.query_row("SELECT min(at) FROM audit", (), |row| row.get(0)).unwrap();
        assert_eq!(oldest, 51, "the oldest went");
    }

    #[test]
    fn secrets_that_ended_are_listed_for_a_while() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("otaru.db");
        drop(Db::open(&path).unwrap());
        let tx = Connection::open(&path).unwrap();
        tx.execute_batch("PRAGMA foreign_keys = true").unwrap();
        let (long_ago, lately) = (NOW.0 - ENDED.0 - 1, NOW.0 - 1);
        for (id, revoked, expires) in [
            ("good", None, None),
            ("later", None, Some(NOW.0 + 1)),
            ("lately", Some(lately), None),
            ("revoked", Some(long_ago), Some(NOW.0 + 1)),
            ("expired", None, Some(long_ago)),
        ] {
            let signed = |at: Option<u64>| at.map(u64::cast_signed);
            tx.execute(
                "INSERT INTO tokens (id, name, role, hash, created_at, created_by, revoked_at, expires_at)
                 VALUES (?1, ?1, 'viewer', zeroblob(32), 1, 'x', ?2, ?3)",
                params![id, signed(revoked), signed(expires)],
            )
            .unwrap();
            tx.execute(
                "INSERT INTO sessions (hash, token, created_at, used_at) VALUES (CAST(?1 AS BLOB), ?1, 1, 1)",
                [id],
            )
            .unwrap();
            tx.execute(
                "INSERT INTO fleet_keys (id, name, hash, created_at, created_by, revoked_at)
                 VALUES (?1, ?1, zeroblob(32), 1, 'x', ?2)",
                params![id, signed(revoked)],
            )
            .unwrap();
        }
        let ids = |table: &str| -> Vec<String> {
            let sql = format!("SELECT id FROM {table} ORDER BY id");
            let rows = tx.prepare(&sql);
            rows.query_map((), |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
        };
        tx.execute("INSERT INTO devices (id, first_seen, fleet_key) VALUES ('d', 1, 'revoked')", ()).unwrap();
        prune(&tx, NOW).unwrap();
        assert_eq!(ids("tokens"), ["good", "lately", "later"]);
        assert_eq!(ids("fleet_keys").len(), 5, "one that a device came with stays");
        tx.execute("DELETE FROM devices", ()).unwrap();
        prune(&tx, NOW).unwrap();
        assert_eq!(ids("fleet_keys"), ["expired", "good", "lately", "later"]);
    }
}
