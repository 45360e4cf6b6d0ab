//! Rows that cannot be read: what a newer version wrote, or a damaged disk. They are left out, and all else goes on.

use otaru_format::status::UpdateState;
use otaru_rollout::{Phase, RolloutId};
use otaru_server::rollouts::{deployments, rows};
use serde_json::json;

use crate::lab::Lab;

/// Changes a row's state to what no version reads.
async fn spoil(lab: &Lab, sql: &'static str) {
    let spoiled = lab.app.db.write(move |tx| tx.execute(sql, ()));
    assert_eq!(spoiled.await.unwrap(), 1);
}

#[tokio::test]
async fn an_unreadable_rollout_keeps_nobody_else_up() {
    let mut lab = Lab::new().await;
    lab.fleet(&["a", "b", "c"]).await;
    // One that is under way, one that would take every device, and one that is sound.
    let first = lab.roll_out(2, json!({"target": {"devices": ["a"]}})).await;
    let for_all = lab.roll_out(2, json!({"continuous": true, "start_at": 1})).await;
    lab.work().await;
    spoil(&lab, "UPDATE rollouts SET state = '{\"spec\": 7}' WHERE id = 1").await;
    spoil(&lab, "UPDATE rollouts SET state = 'x' WHERE id = 2").await;
    assert_eq!((first.0, for_all.0), (1, 2));
    let sound = lab.roll_out(3, json!({"target": {"devices": ["c"]}, "priority": 5})).await;
    lab.restart();
    lab.work().await;
    assert_eq!(lab.phase(sound).await, Phase::Running);
    assert!(!lab.sent("c").is_empty(), "it is offered something");
    // Reports are taken in, of those in such a rollout too, and new devices come.
    lab.reports("a", UpdateState::Idle, "1.1.0", None).await;
    lab.fleet(&["new"]).await;
    assert_eq!(lab.there().await, ["a", "b", "c", "new"]);
    let listed = lab.app.db.read(|tx| rows::list(tx, None, None, 2)).await.unwrap();
    assert_eq!(listed.iter().map(|kept| kept.rollout.id()).collect::<Vec<_>>(), [sound]);
    // A look at one says which it is.
    let why = lab.app.db.read(move |tx| rows::get(tx, first)).await.unwrap_err().to_string();
    assert!(why.contains("rollout 1"), "{why}");
    lab.restart_alone().await;
    assert!(lab.there().await.is_empty(), "the sweep ends");
}

#[tokio::test]
async fn an_unreadable_deployment_keeps_nobody_else_up() {
    let mut lab = Lab::new().await;
    lab.fleet(&["a", "b"]).await;
    lab.roll_out(2, json!({})).await;
    lab.work().await;
    spoil(&lab, "UPDATE deployments SET state = 'x' WHERE device = 'a'").await;
    lab.reports("a", UpdateState::Idle, "1.1.0", None).await;
    lab.comes("b", false).await;
    assert_eq!(lab.there().await, ["a"]);
    // The list of the rollout's deployments has the others, also where a page is of such rows only.
    let list = |after: Option<&'static str>| {
        lab.app.db.read(move |tx| deployments::list(tx, RolloutId(1), None, None, after, 1))
    };
    let first = list(None).await.unwrap();
    assert!(first.items.is_empty() && first.next.is_some(), "{first:?}");
    assert_eq!(list(Some("a")).await.unwrap().items[0].device, "b");
    lab.restart_alone().await;
    assert!(lab.there().await.is_empty());
}

#[tokio::test]
async fn an_unreadable_deployment_in_front_keeps_no_other_from_starting() {
    let mut lab = Lab::new().await;
    lab.fleet(&["a", "b", "c"]).await;
    let id = lab.roll_out(2, json!({"limits": {"concurrency": 1}, "start_at": 1})).await;
    // All are ready before any starts.
    lab.broker_is_away(true);
    lab.work().await;
    let under_way = "SELECT count(*) FROM devices WHERE active IS NOT NULL";
    let count = async |sql: &'static str| {
        lab.app.db.read(move |tx| tx.query_row(sql, (), |row| row.get::<i64>(0))).await.unwrap()
    };
    assert_eq!(count(under_way).await, 1);
    let ready = "SELECT count(*) FROM deployments WHERE standing = 'ready'";
    assert_eq!(count(ready).await, 2);
    // The one that would be next.
    spoil(
        &lab,
        "UPDATE deployments SET state = 'x' WHERE device = (SELECT device FROM deployments WHERE standing = 'ready'
         ORDER BY wave, starts, position LIMIT 1)",
    )
    .await;
    let first = lab.app.db.read(|tx| {
        tx.query_row("SELECT id FROM devices WHERE active IS NOT NULL", (), |row| row.get::<String>(0))
    });
    let first = first.await.unwrap();
    lab.broker_is_away(false);
    lab.work().await;
    let name = format!("{}-1", id.0);
    lab.reports(&first, UpdateState::Idle, "1.1.0", Some(&name)).await;
    lab.work().await;
    assert_eq!(lab.standing(id, &first).await, "succeeded");
    let under_way = "SELECT count(*) FROM deployments WHERE standing = 'ready'";
    let left = lab.app.db.read(move |tx| tx.query_row(under_way, (), |row| row.get::<i64>(0))).await.unwrap();
    assert_eq!(left, 1, "the one behind it has started");
}

#[tokio::test]
async fn an_offer_that_cannot_be_read_is_kept_and_keeps_no_other_back() {
    let mut lab = Lab::new().await;
    lab.fleet(&["a", "b", "c"]).await;
    lab.roll_out(2, json!({})).await;
    lab.broker_is_away(true);
    lab.work().await;
    let sound = lab.app.db.read(|tx| {
        let sql = "SELECT state FROM deployments WHERE device = 'a'";
        tx.query_row(sql, (), |row| row.get::<String>(0))
    });
    let sound = sound.await.unwrap();
    // A deployment, and a message.
    spoil(&lab, "UPDATE deployments SET state = 'x' WHERE device = 'a'").await;
    spoil(&lab, "UPDATE outbox SET message = '{\"to_come\": 1}' WHERE device = 'b'").await;
    lab.broker_is_away(false);
    lab.work().await;
    assert_eq!([lab.sent("a").len(), lab.sent("b").len(), lab.sent("c").len()], [0, 0, 1]);
    let kept = lab.app.db.read(|tx| {
        let rows = tx.prepare("SELECT device FROM outbox ORDER BY device");
        rows.query_map((), |row| row.get::<String>(0))?.collect::<Result<Vec<_>, _>>()
    });
    assert_eq!(kept.await.unwrap(), ["a", "b"]);
    // Whoever reads it sends it.
    let again = lab
        .app
        .db
        .write(move |tx| tx.execute("UPDATE deployments SET state = ? WHERE device = 'a'", [sound.as_str()]));
    assert_eq!(again.await.unwrap(), 1);
    lab.work().await;
    assert_eq!(lab.sent("a").len(), 1);
}

#[tokio::test]
async fn no_number_of_unreadable_deployments_keeps_the_time_of_others_from_running_out() {
    let mut lab = Lab::new().await;
    // More than are looked at in one write.
    let devices: Vec<_> = (0..260).map(|number| format!("d{number:03}")).collect();
    let names: Vec<_> = devices.iter().map(String::as_str).collect();
    lab.fleet(&names).await;
    lab.fleet(&["sound"]).await;
    lab.roll_out(2, json!({"target": {"devices": names}})).await;
    lab.work().await;
    let due = lab.app.db.read(|tx| {
        tx.query_row("SELECT count(*) FROM deployments WHERE wake_at > 0", (), |row| row.get::<i64>(0))
    });
    assert_eq!(due.await.unwrap(), 260, "all are under way");
    spoil(&lab, "UPDATE rollouts SET state = 'x'").await;
    let more = json!({"target": {"devices": ["sound"]}, "attempts": {"count": 1}});
    let sound = lab.roll_out(3, more).await;
    lab.work().await;
    lab.shift(24 * 3_600_000);
    lab.work().await;
    assert_eq!(lab.standing(sound, "sound").await, "timed_out");
}
