//! The queries that every report and every start makes find their rows by an index, however large the fleet is.

use crate::lab::Lab;

#[tokio::test]
async fn hot_queries_scan_no_table() {
    if !otaru_testing::postgres::is_sqlite() {
        return;
    }
    let lab = Lab::new().await;
    let queries = [
        (
            "a device's open deployments",
            "SELECT rollout FROM deployments WHERE device = 'a' AND is_open ORDER BY rollout",
        ),
        ("one deployment", "SELECT state FROM deployments WHERE rollout = 1 AND device = 'a'"),
        ("open rollouts", "SELECT id FROM rollouts WHERE is_open ORDER BY id"),
        ("rollouts that are alive", "SELECT id FROM rollouts WHERE is_alive ORDER BY id"),
        (
            "who may start",
            "SELECT p.device FROM deployments p JOIN devices d ON d.id = p.device
             WHERE p.rollout = 1 AND p.standing = 'ready' AND p.wave <= 1 AND d.active IS NULL
             ORDER BY p.wave, p.starts, p.position LIMIT 10",
        ),
        (
            "whose time is over",
            "SELECT wake_at, rollout, device FROM deployments WHERE wake_at <= 5 AND (wake_at, rollout, device) > (1, 1, 'a')
             ORDER BY wake_at, rollout, device LIMIT 10",
        ),
        (
            "the next of a scan",
            "SELECT id FROM devices WHERE id > 'a' AND retired_at IS NULL ORDER BY id LIMIT 10",
        ),
        (
            "who reported over HTTP long ago",
            "SELECT id FROM devices WHERE polled_at < 5 AND reachable AND retired_at IS NULL LIMIT 10",
        ),
        (
            "who is asked before that",
            "SELECT id FROM devices WHERE id > 'a' AND retired_at IS NULL AND reachable
             AND id IN (SELECT id FROM devices WHERE polled_at < 5) AND epochs <> '' ORDER BY id LIMIT 10",
        ),
        ("the outbox", "SELECT id, device, message FROM outbox ORDER BY id LIMIT 10"),
        (
            "a device's history",
            "SELECT id FROM device_events WHERE device = 'a' AND id < 9 ORDER BY id DESC LIMIT 10",
        ),
        (
            "who refused for its board",
            "SELECT device, state FROM deployments
             WHERE error_code IN ('flash_too_small', 'too_large', 'wrong_revision') AND standing IN ('refused', 'failed')",
        ),
        (
            "another release of this name",
            "SELECT 1 FROM releases WHERE product = 'a' AND chip = 'b' AND version = 'c' AND image <> x'00'",
        ),
        ("who runs an image", "SELECT id FROM devices WHERE image = x'00' AND version <> 'a' AND retired_at IS NULL"),
        (
            "what was retired",
            "SELECT id FROM devices WHERE image = x'00' AND version <> 'a' AND retired_at IS NOT NULL",
        ),
        ("a release by its image", "SELECT id FROM releases WHERE image = x'00'"),
    ];
    for (what, sql) in queries {
        let plan = lab.app.db.read(move |tx| {
            let explained = format!("EXPLAIN QUERY PLAN {sql}");
            let rows = tx.prepare(&explained);
            let plan = rows.query_map((), |row| row.get::<String>(3))?;
            plan.collect::<Result<Vec<_>, _>>()
        });
        let plan = plan.await.unwrap();
        for line in &plan {
            // A partial index that has just the rows wanted is read whole, and so is the outbox: that is the work.
            let partial = ["rollouts_open", "rollouts_alive", "deployments_unfit"]
                .iter()
                .any(|index| line.contains(index));
            let whole = line.starts_with("SCAN") && !partial && what != "the outbox";
            assert!(!whole && !line.contains("TEMP B-TREE"), "{what}: {plan:?}");
        }
    }
}
