//! Sweeps of the fleet: after a time without any server, devices that were connected are gone until they are heard.

use std::time::Duration;

use otaru_format::status::UpdateState;
use otaru_rollout::{DeviceId, Phase};
use otaru_server::reconcile::{asking, ingest, sweep, take_presence};
use otaru_server::statement_params as params;
use otaru_testing::postgres::is_sqlite;
use serde_json::json;
use tokio::time::{sleep, timeout};

use crate::lab::{FakePublisher, Lab};

const MINUTE: i64 = 60_000;

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

/// Makes a server known that was heard so many milliseconds ago, and the sweep its own; this one is there.
async fn another_sweeps(lab: &Lab, age: i64) {
    is_heard(lab, "", -60_000).await;
    is_heard(lab, "other", age).await;
    lab.app.db.write(|tx| sweep::begin(tx, "other")).await.unwrap();
}

/// Notes that a server was heard so many milliseconds ago.
async fn is_heard(lab: &Lab, server: &'static str, age: i64) {
    let noted = lab.app.db.write(move |tx| {
        let now = otaru_server::cluster::leases::now(tx)?;
        tx.execute(
            "INSERT INTO servers (id, name, broker, firmware, signer, version, started_at, seen_at)
             VALUES (?1, 'x:8080', '', '', '', '', 0, ?2)
             ON CONFLICT (id) DO UPDATE SET seen_at = ?2",
            params![server, now - age],
        )
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
    assert!(lab.app.db.read(sweep::maker).await.unwrap().is_none(), "nobody waits for it any more");
}

/// Has every write fail that notes the device `b` as gone.
const BROKEN: [&str; 2] = [
    "CREATE TRIGGER broken BEFORE UPDATE OF reachable ON devices WHEN NEW.id = 'b' BEGIN SELECT RAISE(ABORT, 'broken'); END",
    "ALTER TABLE devices ADD CONSTRAINT broken CHECK (reachable OR id <> 'b')",
];
const MENDED: [&str; 2] = ["DROP TRIGGER broken", "ALTER TABLE devices DROP CONSTRAINT broken"];

async fn alter(lab: &Lab, statements: [&'static str; 2]) {
    let statement = if is_sqlite() { statements[0] } else { statements[1] };
    lab.app.db.write(move |tx| tx.execute_batch(statement)).await.unwrap();
}

/// Lets a sweep go on until something is so.
async fn goes_on_until(running: &mut (impl Future<Output = bool> + Unpin), is_so: impl AsyncFn() -> bool) {
    let looks = async {
        while !is_so().await {
            sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        _ = running => panic!("it is over"),
        () = looks => {}
        () = sleep(Duration::from_secs(60)) => panic!("that never comes"),
    }
}

#[tokio::test]
async fn a_sweep_that_fails_is_told_until_it_goes_on() {
    let mut lab = Lab::new().await;
    lab.fleet(&["a", "b"]).await;
    // Those in no rollout come first, and are no failure.
    lab.roll_out(2, json!({"target": {"devices": ["b"]}})).await;
    lab.work().await;
    lab.app.db.write(|tx| sweep::begin(tx, "")).await.unwrap();
    alter(&lab, BROKEN).await;
    let mut running = Box::pin(sweep::run(&lab.app));
    let noted = async || {
        let sql = "SELECT value FROM meta WHERE key = 'sweep_failure'";
        let noted = lab.app.db.read(move |tx| tx.query_row(sql, (), |row| row.get::<String>(0)));
        noted.await.unwrap_or_default()
    };
    goes_on_until(&mut running, async || !noted().await.is_empty()).await;
    let why = lab.app.readiness.ask().await.unwrap_err();
    assert!(why.starts_with("devices are not heard") && why.contains("broken"), "{why}");
    assert!(why.ends_with(&noted().await), "others are told the same: {why}");
    // As long as it tries in vain, both stay.
    for _ in 0..60 {
        goes_on_until(&mut running, async || true).await;
        assert!(!noted().await.is_empty() && lab.app.readiness.ask().await.is_err());
        let _ = timeout(Duration::from_millis(20), &mut running).await;
    }
    assert_eq!(lab.there().await, ["b"]);
    alter(&lab, MENDED).await;
    assert!(running.await);
    assert!(lab.there().await.is_empty() && noted().await.is_empty());
    lab.app.readiness.ask().await.unwrap();
    assert!(lab.app.db.read(sweep::maker).await.unwrap().is_none());
}

#[tokio::test]
async fn who_waits_for_a_sweep_that_fails_says_so() {
    if is_sqlite() {
        return;
    }
    let lab = Lab::new().await;
    another_sweeps(&lab, -60_000).await;
    let put = async |sql: &'static str| lab.app.db.write(move |tx| tx.execute(sql, ())).await.unwrap();
    put("INSERT INTO meta (key, value) VALUES ('sweep_failure', 'a row is broken')").await;
    let mut running = Box::pin(sweep::run(&lab.app));
    goes_on_until(&mut running, async || lab.app.readiness.ask().await.is_err()).await;
    let why = lab.app.readiness.ask().await.unwrap_err();
    assert!(why.starts_with("another server") && why.ends_with("a row is broken"), "{why}");
    put("DELETE FROM meta WHERE key = 'sweep_failure'").await;
    goes_on_until(&mut running, async || lab.app.readiness.ask().await.is_ok()).await;
    lab.app.db.write(sweep::forget).await.unwrap();
    assert!(running.await);
}

/// It stood still for so long that it is none of those that are there: what it would hear after the sweep is not known to others.
#[tokio::test]
async fn a_server_that_is_not_there_takes_no_sweep_over() {
    if is_sqlite() {
        return;
    }
    let lab = Lab::new().await;
    lab.fleet(&["a"]).await;
    another_sweeps(&lab, 60_000).await;
    is_heard(&lab, "", 60_000).await;
    let mut running = Box::pin(sweep::run(&lab.app));
    let waits = timeout(Duration::from_millis(1_200), &mut running).await;
    assert!(waits.is_err() && lab.there().await == ["a"]);
    is_heard(&lab, "", -60_000).await;
    assert!(running.await);
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
    let mut lab = Lab::new().await;
    let names = ["known", "later", "mute", "only", "reports", "same"];
    lab.fleet(&names).await;
    for name in ["later", "only", "reports", "same"] {
        lab.comes(name, false).await;
    }
    for name in names {
        polls(&lab, name).await;
    }
    lab.comes("later", true).await;
    // As after a restart: what the broker had kept comes first, then the same over HTTP, and then from the device.
    lab.app.recent.forget_all();
    for name in ["known", "same"] {
        lab.reports(name, UpdateState::Idle, "1.0.0", None).await;
        polls(&lab, name).await;
    }
    lab.live = true;
    lab.reports("same", UpdateState::Idle, "1.0.0", None).await;
    lab.reports("reports", UpdateState::Idle, "1.1.0", None).await;
    lab.shift(13 * MINUTE);
    // Firmware that numbers its reports understands the question.
    let sql = "UPDATE devices SET epochs = '1' WHERE id <> 'reports'";
    lab.app.db.write(move |tx| tx.execute(sql, ())).await.unwrap();
    // Those that are connected all the time are asked before they are taken to be gone, and say nothing new.
    assert_eq!(asked(&lab).await, ["known", "mute", "only"]);
    lab.reports("known", UpdateState::Idle, "1.0.0", None).await;
    assert_eq!(asked(&lab).await, ["mute", "only"]);
    ingest::polled_long_ago(&lab.app).await.unwrap();
    assert_eq!(lab.there().await, names);
    lab.shift(3 * MINUTE);
    ingest::polled_long_ago(&lab.app).await.unwrap();
    assert_eq!(lab.there().await, ["known", "later", "reports", "same"]);
    // What it says to the broker ends that for good, also where it is nothing new.
    lab.reports("only", UpdateState::Idle, "1.0.0", None).await;
    lab.shift(MINUTE);
    ingest::polled_long_ago(&lab.app).await.unwrap();
    assert_eq!(lab.there().await, ["known", "later", "only", "reports", "same"]);
}

/// Asks devices that reported over HTTP whether they are there. Returns which.
async fn asked(lab: &Lab) -> Vec<String> {
    let bus = FakePublisher::default();
    asking::ask_all(&lab.app, &bus, asking::Scope::Polled).await.unwrap();
    let sent = bus.sent.lock().unwrap();
    sent.iter().filter_map(|(topic, _)| Some(topic.split('/').nth(2)?.to_owned())).collect()
}

/// Another server hears what the device says to the broker, and remembers it.
#[tokio::test]
async fn others_are_told_when_a_device_reports_over_http() {
    if is_sqlite() {
        return;
    }
    let lab = Lab::new().await;
    lab.fleet(&["a"]).await;
    let told = async || {
        let sql = "SELECT count(*) FROM notices WHERE notice LIKE '%changed%\"a\"%'";
        lab.app.db.read(move |tx| tx.query_row(sql, (), |row| row.get::<i64>(0))).await.unwrap()
    };
    polls(&lab, "a").await;
    polls(&lab, "a").await;
    assert_eq!(told().await, 1, "once");
}

/// Between two sweeps a device reports over HTTP, which is all it can do while nobody is let in by the broker.
#[tokio::test]
async fn a_sweep_spares_who_reports_over_http_meanwhile() {
    let mut lab = Lab::new().await;
    lab.fleet(&["a", "b"]).await;
    lab.restart();
    lab.app.db.write(|tx| sweep::begin(tx, "")).await.unwrap();
    polls(&lab, "a").await;
    assert!(sweep::run(&lab.app).await);
    assert_eq!(lab.there().await, ["a"]);
}

/// The clock of the server that took its report was ahead.
#[tokio::test]
async fn a_report_of_the_future_does_not_keep_a_device_for_ever() {
    let lab = Lab::new().await;
    lab.fleet(&["a"]).await;
    lab.comes("a", false).await;
    polls(&lab, "a").await;
    lab.shift(-14 * MINUTE);
    ingest::polled_long_ago(&lab.app).await.unwrap();
    assert_eq!(lab.there().await, ["a"]);
    lab.shift(-2 * MINUTE);
    ingest::polled_long_ago(&lab.app).await.unwrap();
    assert!(lab.there().await.is_empty());
}

/// What the broker keeps of a device that was connected once is older than a report over HTTP.
#[tokio::test]
async fn a_kept_goodbye_does_not_end_what_a_report_over_http_says() {
    let lab = Lab::new().await;
    lab.fleet(&["a"]).await;
    lab.comes("a", false).await;
    polls(&lab, "a").await;
    let goes = async |anew| {
        take_presence(&lab.app, &DeviceId::from("a"), false, anew, false).await.unwrap();
        lab.there().await
    };
    assert_eq!(goes(false).await, ["a"]);
    assert!(goes(true).await.is_empty(), "it has just gone");
    polls(&lab, "a").await;
    lab.shift(16 * MINUTE);
    assert!(goes(false).await.is_empty(), "the report is old");
}

/// A report that the broker had kept says nothing of a device that is away; the same from the device does.
#[tokio::test]
async fn what_was_kept_is_news_when_it_is_heard() {
    let mut lab = Lab::new().await;
    lab.fleet(&["a"]).await;
    lab.restart_alone().await;
    lab.reports("a", UpdateState::Idle, "1.0.0", None).await;
    assert!(lab.there().await.is_empty());
    lab.live = true;
    lab.reports("a", UpdateState::Idle, "1.0.0", None).await;
    assert_eq!(lab.there().await, ["a"]);
}

/// A report over HTTP is remembered until its device is gone, and not for longer.
#[tokio::test]
async fn a_device_that_went_and_comes_back_is_not_held_to_what_it_said_over_http_before() {
    let mut lab = Lab::new().await;
    let names = ["earlier", "swept", "went"];
    lab.fleet(&names).await;
    for name in names {
        lab.comes(name, false).await;
        polls(&lab, name).await;
    }
    lab.comes("went", false).await;
    lab.shift(16 * MINUTE);
    lab.restart_alone().await;
    assert!(lab.there().await.is_empty());
    // As an earlier version left it.
    let sql = "UPDATE devices SET polled_at = 1 WHERE id = 'earlier'";
    lab.app.db.write(move |tx| tx.execute(sql, ())).await.unwrap();
    // The broker had kept that they are connected.
    for name in names {
        take_presence(&lab.app, &DeviceId::from(name), true, false, false).await.unwrap();
    }
    ingest::polled_long_ago(&lab.app).await.unwrap();
    assert_eq!(lab.there().await, names);
}

/// The broker lost power, so that the last will of an old connection was never sent.
#[tokio::test]
async fn that_a_device_was_connected_once_does_not_keep_it() {
    let lab = Lab::new().await;
    lab.fleet(&["a", "b"]).await;
    lab.comes("b", false).await;
    for name in ["a", "b"] {
        polls(&lab, name).await;
        take_presence(&lab.app, &DeviceId::from(name), true, false, false).await.unwrap();
    }
    lab.shift(16 * MINUTE);
    ingest::polled_long_ago(&lab.app).await.unwrap();
    assert!(lab.there().await.is_empty());
}
