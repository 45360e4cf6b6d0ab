//! Sweeps of the fleet: after a time without any server, devices that were connected are gone until they are heard.

use std::time::Duration;

use otaru_format::status::UpdateState;
use otaru_rollout::{DeviceId, Phase};
use otaru_server::reconcile::{ingest, sweep, take_presence};
use otaru_server::statement_params as params;
use otaru_testing::postgres::is_sqlite;
use serde_json::json;
use tokio::time::timeout;

use crate::lab::Lab;

/// More devices than are written in one statement, and than are looked at in one write.
#[tokio::test]
async fn a_server_that_starts_alone_takes_all_for_gone() {
    let mut lab = Lab::new().await;
    let names: Vec<String> = (0..520).map(|number| format!("d{number:03}")).collect();
    lab.fleet(&names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    lab.comes("d007", false).await;
    let id = lab.roll_out(2, json!({"limits": {"concurrency": 3}})).await;
    lab.work().await;
    let count = async |lab: &Lab, standing: &str| {
        let sql = format!("SELECT count(*) FROM deployments WHERE standing = '{standing}'");
        lab.app.db.read(move |tx| tx.query_row(&sql, (), |row| row.get::<i64>(0))).await.unwrap()
    };
    assert_eq!((count(&lab, "active").await, count(&lab, "ready").await), (3, 516));
    lab.restart_alone().await;
    assert_eq!((count(&lab, "active").await, count(&lab, "waiting").await), (3, 517));
    assert!(lab.there().await.is_empty());
    // Each that is heard again goes on from where it was.
    for name in &names {
        lab.comes(name, true).await;
    }
    assert_eq!((count(&lab, "active").await, count(&lab, "ready").await), (3, 517));
    assert_eq!(lab.phase(id).await, Phase::Running);
    lab.check().await;
}

#[tokio::test]
async fn a_lone_start_spares_who_reported_over_http_within_a_quarter_of_an_hour() {
    const MINUTE: i64 = 60_000;
    let mut lab = Lab::new().await;
    let polled =
        [("a", Some(-14 * MINUTE)), ("b", Some(-16 * MINUTE)), ("c", Some(16 * MINUTE)), ("d", None)];
    let queued = polled.map(|(name, _)| name);
    lab.fleet(&queued).await;
    lab.fleet(&["e", "f"]).await;
    // Some are in a rollout, which is noted in another way than the others.
    lab.roll_out(2, json!({"target": {"devices": queued}, "limits": {"concurrency": 1}})).await;
    lab.work().await;
    let now = lab.app.clock.now().0.cast_signed();
    let at: Vec<(&str, Option<i64>)> = polled
        .into_iter()
        .chain([("e", Some(14 * MINUTE))])
        .map(|(name, at)| (name, at.map(|at| now + at)))
        .collect();
    for (name, at) in at {
        let noted = lab
            .app
            .db
            .write(move |tx| tx.execute("UPDATE devices SET polled_at = ? WHERE id = ?", params![at, name]));
        noted.await.unwrap();
    }
    lab.restart_alone().await;
    // Not one whose time is of a clock that was set back.
    assert_eq!(lab.there().await, ["a", "e"]);
}

/// Makes a server known that was heard so many milliseconds ago, and the sweep its own.
async fn another_sweeps(lab: &Lab, age: i64) {
    let noted = lab.app.db.write(move |tx| {
        let now = otaru_server::cluster::leases::now(tx)?;
        tx.execute(
            "INSERT INTO servers (id, name, broker, firmware, signer, version, started_at, seen_at)
             VALUES ('other', 'other:8080', '', '', '', '', 0, ?1)
             ON CONFLICT (id) DO UPDATE SET seen_at = ?1",
            [now - age],
        )?;
        sweep::begin(tx, "other")
    });
    noted.await.unwrap();
}

#[tokio::test]
async fn a_sweep_of_another_server_is_waited_for() {
    if is_sqlite() {
        return;
    }
    let lab = Lab::new().await;
    lab.fleet(&["a", "b"]).await;
    another_sweeps(&lab, -60_000).await;
    let waited = timeout(Duration::from_millis(1_200), sweep::run(&lab.app)).await;
    assert!(waited.is_err() && !*lab.app.swept.borrow(), "it is not over");
    assert_eq!(lab.there().await, ["a", "b"], "and not this server's to make");
    lab.app.db.write(sweep::forget).await.unwrap();
    assert!(sweep::run(&lab.app).await && *lab.app.swept.borrow());
    assert_eq!(lab.there().await, ["a", "b"], "what was heard since stays");
}

#[tokio::test]
async fn a_sweep_goes_on_where_the_server_that_makes_it_died() {
    let lab = Lab::new().await;
    lab.fleet(&["a", "b"]).await;
    match is_sqlite() {
        true => lab.app.db.write(|tx| sweep::begin(tx, "other")).await.unwrap(),
        false => another_sweeps(&lab, 60_000).await,
    }
    assert!(sweep::run(&lab.app).await);
    assert!(lab.there().await.is_empty());
    assert!(lab.app.db.read(sweep::whose).await.unwrap().is_none(), "nobody waits for it any more");
}

/// Has every write fail that notes a device as gone.
const BROKEN: [&str; 2] = [
    "CREATE TRIGGER broken BEFORE UPDATE OF reachable ON devices BEGIN SELECT RAISE(ABORT, 'broken'); END",
    "ALTER TABLE devices ADD CONSTRAINT broken CHECK (reachable)",
];
const MENDED: [&str; 2] = ["DROP TRIGGER broken", "ALTER TABLE devices DROP CONSTRAINT broken"];

async fn alter(lab: &Lab, statements: [&'static str; 2]) {
    let statement = if is_sqlite() { statements[0] } else { statements[1] };
    lab.app.db.write(move |tx| tx.execute_batch(statement)).await.unwrap();
}

#[tokio::test]
async fn a_sweep_that_fails_is_told_until_it_goes_on() {
    let lab = Lab::new().await;
    lab.fleet(&["a", "b"]).await;
    lab.app.db.write(|tx| sweep::begin(tx, "")).await.unwrap();
    alter(&lab, BROKEN).await;
    {
        let running = sweep::run(&lab.app);
        tokio::pin!(running);
        assert!(timeout(Duration::from_millis(700), &mut running).await.is_err(), "it goes on trying");
        let why = lab.app.readiness.ask().await.unwrap_err();
        assert!(why.starts_with("devices are not heard") && why.contains("broken"), "{why}");
        let sql = "SELECT value FROM meta WHERE key = 'sweep_failure'";
        let noted: String = lab.app.db.read(move |tx| tx.query_row(sql, (), |row| row.get(0))).await.unwrap();
        assert!(why.ends_with(&noted), "others are told: {noted}");
        alter(&lab, MENDED).await;
        assert!(timeout(Duration::from_secs(20), &mut running).await.unwrap());
    }
    assert!(lab.there().await.is_empty());
    lab.app.readiness.ask().await.unwrap();
    let sql = "SELECT count(*) FROM meta WHERE key LIKE 'sweep%'";
    let left = lab.app.db.read(move |tx| tx.query_row(sql, (), |row| row.get::<i64>(0)));
    assert_eq!(left.await.unwrap(), 0);
}

#[tokio::test]
async fn who_waits_for_a_sweep_that_fails_says_so() {
    if is_sqlite() {
        return;
    }
    let lab = Lab::new().await;
    another_sweeps(&lab, -60_000).await;
    let sql = "INSERT INTO meta (key, value) VALUES ('sweep_failure', 'a row is broken')";
    lab.app.db.write(move |tx| tx.execute(sql, ())).await.unwrap();
    let running = sweep::run(&lab.app);
    tokio::pin!(running);
    assert!(timeout(Duration::from_millis(700), &mut running).await.is_err());
    let why = lab.app.readiness.ask().await.unwrap_err();
    assert!(why.starts_with("another server") && why.ends_with("a row is broken"), "{why}");
    let sql = "DELETE FROM meta WHERE key = 'sweep_failure'";
    lab.app.db.write(move |tx| tx.execute(sql, ())).await.unwrap();
    assert!(timeout(Duration::from_millis(1_200), &mut running).await.is_err());
    lab.app.readiness.ask().await.unwrap();
    lab.app.db.write(sweep::forget).await.unwrap();
    assert!(timeout(Duration::from_secs(20), &mut running).await.unwrap());
}

/// The one that waits was in the midst of an earlier sweep.
#[tokio::test]
async fn a_sweep_that_is_taken_over_begins_with_the_first_device() {
    if is_sqlite() {
        return;
    }
    let lab = Lab::new().await;
    lab.fleet(&["a", "b"]).await;
    lab.comes("a", false).await;
    lab.app.db.write(|tx| sweep::begin(tx, "")).await.unwrap();
    // It has looked at all but the end of the fleet when it fails.
    alter(&lab, BROKEN).await;
    let running = sweep::run(&lab.app);
    tokio::pin!(running);
    assert!(timeout(Duration::from_millis(700), &mut running).await.is_err());
    another_sweeps(&lab, 60_000).await;
    alter(&lab, MENDED).await;
    lab.comes("a", true).await;
    assert!(timeout(Duration::from_secs(20), &mut running).await.unwrap());
    assert!(lab.there().await.is_empty());
}

#[tokio::test]
async fn the_end_of_the_server_ends_a_wait() {
    if is_sqlite() {
        return;
    }
    let lab = Lab::new().await;
    another_sweeps(&lab, -60_000).await;
    lab.app.stop.cancel();
    assert!(!sweep::run(&lab.app).await && !sweep::over(&lab.app).await);
}

async fn polls(lab: &Lab, device: &str) {
    let report = Lab::status(device, UpdateState::Idle, "1.0.0", None, None);
    ingest::take_poll(&lab.app, &DeviceId::from(device), report).await.unwrap();
}

/// Devices that report over HTTP, and are connected to the broker before or afterwards.
#[tokio::test]
async fn a_device_that_reported_over_http_stays_while_it_is_connected() {
    const MINUTE: i64 = 60_000;
    let mut lab = Lab::new().await;
    let names = ["before", "kept", "later", "only", "reports", "same"];
    lab.fleet(&names).await;
    for name in names {
        if name != "before" {
            lab.comes(name, false).await;
        }
        polls(&lab, name).await;
    }
    lab.comes("later", true).await;
    // As after a restart: what the broker had kept comes first, and then the same from the device.
    lab.app.recent.forget_all();
    lab.reports("kept", UpdateState::Idle, "1.0.0", None).await;
    polls(&lab, "same").await;
    lab.live = true;
    lab.reports("kept", UpdateState::Idle, "1.0.0", None).await;
    lab.reports("same", UpdateState::Idle, "1.0.0", None).await;
    lab.reports("reports", UpdateState::Idle, "1.1.0", None).await;
    lab.shift(14 * MINUTE);
    ingest::polled_long_ago(&lab.app).await.unwrap();
    assert_eq!(lab.there().await, names);
    lab.shift(2 * MINUTE);
    ingest::polled_long_ago(&lab.app).await.unwrap();
    assert_eq!(lab.there().await, ["before", "kept", "later", "reports", "same"]);
    // What it says to the broker ends that for good, also where it is nothing new.
    lab.reports("only", UpdateState::Idle, "1.0.0", None).await;
    lab.shift(MINUTE);
    ingest::polled_long_ago(&lab.app).await.unwrap();
    assert_eq!(lab.there().await, names);
}

/// A report over HTTP is remembered until its device is gone, and not for longer.
#[tokio::test]
async fn a_device_that_went_and_comes_back_is_not_held_to_what_it_said_over_http_before() {
    const MINUTE: i64 = 60_000;
    let mut lab = Lab::new().await;
    lab.fleet(&["swept", "went"]).await;
    for name in ["swept", "went"] {
        lab.comes(name, false).await;
        polls(&lab, name).await;
    }
    lab.comes("went", false).await;
    lab.shift(16 * MINUTE);
    lab.restart_alone().await;
    assert!(lab.there().await.is_empty());
    // The broker had kept that they are connected.
    for name in ["swept", "went"] {
        take_presence(&lab.app, &DeviceId::from(name), true, false, false).await.unwrap();
    }
    ingest::polled_long_ago(&lab.app).await.unwrap();
    assert_eq!(lab.there().await, ["swept", "went"]);
}

/// The broker lost power, so that the last will of an old connection was never sent.
#[tokio::test]
async fn that_a_device_was_connected_once_does_not_keep_it() {
    const MINUTE: i64 = 60_000;
    let lab = Lab::new().await;
    lab.fleet(&["a"]).await;
    lab.comes("a", false).await;
    polls(&lab, "a").await;
    take_presence(&lab.app, &DeviceId::from("a"), true, false, false).await.unwrap();
    lab.shift(16 * MINUTE);
    ingest::polled_long_ago(&lab.app).await.unwrap();
    assert!(lab.there().await.is_empty());
}
