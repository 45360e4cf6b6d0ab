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
