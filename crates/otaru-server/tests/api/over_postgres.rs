//! Servers over a PostgreSQL of their own: what they say and do when it is away, when clocks differ, and when others come and go.

use std::path::Path;
use std::time::Duration;

use otaru_rollout::Time;
use otaru_server::clock::Clock;
use otaru_server::config::{ArtifactsConfig, Config, MqttConfig};
use otaru_server::server::{Server, StartError};
use otaru_testing::postgres::{Postgres, psql};

use crate::bench::{Bench, Logs, config, postgres, until};
use crate::hostile::{sends, status};

async fn is_ready(server: &Server) -> Result<(), String> {
    server.app().readiness.ask().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_the_database_is_three_lines_and_requests_are_told() {
    let Some(mut server) = Postgres::start() else { return };
    let (url, logs) = (server.create("fleet"), Logs::all());
    let bench = Bench::start_with(|config| config.database = Some(postgres(&url))).await;
    assert!(!bench.server.app().config.data.join("otaru.db").exists(), "there is nothing to put into it");
    psql(&url, "INSERT INTO devices (id, first_seen) SELECT 'd' || n, 1 FROM generate_series(1, 50) n")
        .unwrap();
    bench.get("/devices").await.is(200);
    let before = logs.text().len();
    server.shut_down();
    for _ in 0..20 {
        bench.get("/devices").await.problem(503, "unavailable");
        bench.post("/devices", serde_json::json!({"id": "new"})).await.problem(503, "unavailable");
    }
    until("it to be known", async || is_ready(&bench.server).await.is_err()).await;
    // Every task of the server has had its turn by then.
    tokio::time::sleep(Duration::from_secs(4)).await;
    server.go_on();
    until("the end", async || is_ready(&bench.server).await.is_ok()).await;
    bench.get("/devices").await.is(200);
    let text = logs.text().split_off(before);
    let loud = |line: &&str| [" WARN ", " ERROR "].iter().any(|level| line.contains(level));
    let lines: Vec<&str> = text.lines().filter(loud).filter(|line| line.contains("otaru")).collect();
    assert!(lines.len() == 1 && lines[0].contains("the database is away"), "{lines:#?}");
    assert_eq!(text.matches("the database answers again").count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_differs_from_the_databases_is_told() {
    let Some(server) = Postgres::start() else { return };
    let (url, logs) = (server.create("fleet"), Logs::all());
    let ahead = || Time(Clock::system().now().0 + 3_600_000);
    let bench = Bench::start_at(|config| config.database = Some(postgres(&url)), Clock::new(ahead)).await;
    let servers = bench.get("/servers").await.is(200).json();
    let differs = servers["items"][0]["clock_ahead_ms"].as_i64().unwrap();
    assert!((3_500_000..3_700_000).contains(&differs), "{servers}");
    until("the warning", async || logs.text().contains("s ahead of the database's")).await;
    assert_eq!(logs.text().matches("s ahead of the database's").count(), 1, "not with each round");
}

/// Returns a server's settings: beside others of this database, with firmware in one folder and a broker that need not be there.
fn beside_others(dir: &Path, name: &str, url: &str, broker: &str) -> Config {
    let mut config = config(dir.join(name));
    config.database = Some(postgres(url));
    config.artifacts = ArtifactsConfig::Folder(dir.join("firmware"));
    config.mqtt = MqttConfig::External { url: broker.parse().unwrap(), auth: None };
    config
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_servers_with_different_brokers_that_start_at_once_one_starts() {
    let Some(server) = Postgres::start() else { return };
    let (url, dir) = (server.create("fleet"), tempfile::tempdir().unwrap());
    let start = |name: &str, broker: &str| Server::start(beside_others(dir.path(), name, &url, broker));
    let (one, other) = tokio::join!(start("a", "mqtt://127.0.0.1:1"), start("b", "mqtt://localhost:1"));
    let started = match (one, other) {
        (Ok(server), Err(StartError::OtherBroker { .. })) => server,
        (Err(StartError::OtherBroker { .. }), Ok(server)) => server,
        (one, other) => panic!("{:?} {:?}", one.err(), other.err()),
    };
    let is_first = started.app().config.data.ends_with("a");
    let broker = if is_first { "127.0.0.1:1" } else { "mqtt://LOCALHOST:1/" };
    let third = start("c", broker).await.unwrap();
    for server in [third, started] {
        server.stop().await;
    }
}

/// Makes a server known that nobody heard for `age` milliseconds, as one that was killed leaves itself.
fn leave_behind(url: &str, name: &str, broker: &str, age: i64) {
    let now = "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)";
    let sql = format!(
        "INSERT INTO servers (id, name, broker, firmware, signer, version, started_at, seen_at)
         VALUES ('{name}', '{name}:8080', '{broker}', '', '', '', 0, {now} - {age});
         INSERT INTO leases (what, server, until) SELECT n, '{name}', {now} + 8000 - {age} FROM generate_series(0, 255) n
         ON CONFLICT (what) DO UPDATE SET server = EXCLUDED.server, until = EXCLUDED.until"
    );
    psql(url, &sql).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_server_after_all_were_killed_is_alone_once_their_leases_have_ended() {
    let Some(server) = Postgres::start() else { return };
    let (url, dir) = (server.create("fleet"), tempfile::tempdir().unwrap());
    let location = otaru_server::db::Location::parse(&url, Default::default()).unwrap();
    drop(tokio::task::spawn_blocking(move || otaru_server::db::Db::open(location).unwrap()).await.unwrap());
    psql(&url, "INSERT INTO devices (id, first_seen, reachable) VALUES ('lamp', 1, TRUE)").unwrap();
    // It had another broker, which this start is to have done with.
    leave_behind(&url, "dead", "elsewhere", 0);
    let logs = Logs::all();
    let started = Server::start(beside_others(dir.path(), "a", &url, "mqtt://127.0.0.1:1")).await.unwrap();
    // Nobody has heard it since.
    until("it to be gone", async || psql(&url, "SELECT reachable FROM devices").unwrap() == "f").await;
    let own = "SELECT count(*) FROM leases WHERE what < 256 AND server <> 'dead'";
    until("it to have all shards", async || psql(&url, own).unwrap() == "256").await;
    started.stop().await;
    // What is taken later is told with whose it was.
    let started = Server::start(beside_others(dir.path(), "a", &url, "mqtt://127.0.0.1:1")).await.unwrap();
    leave_behind(&url, "late", "elsewhere", 7_000);
    until("it to be told", async || logs.text().contains("from=late:8080 (256)")).await;
    started.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_the_broker_leaves_its_part_to_others_that_have_it() {
    let Some(server) = Postgres::start() else { return };
    let (url, dir, logs) = (server.create("fleet"), tempfile::tempdir().unwrap(), Logs::all());
    let started = Server::start(beside_others(dir.path(), "a", &url, "mqtt://127.0.0.1:1")).await.unwrap();
    let holds = || started.app().holdings.has_device("lamp");
    until("it to have all", async || holds()).await;
    // One that does not hear the broker either takes nothing of this one's away, however long that lasts.
    let beside = "INSERT INTO servers (id, name, broker, firmware, signer, version, started_at, seen_at, broker_there, broker_since)
                  SELECT '~', 'b:8080', broker, firmware, signer, version, 0, seen_at + 3600000, FALSE, 0 FROM servers";
    psql(&url, beside).unwrap();
    psql(&url, "UPDATE servers SET broker_since = 0").unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let shards = || started.app().holdings.shards().unwrap().len();
    assert_eq!(shards(), 128, "half of them");
    // One that came to it a moment ago neither: this one may be about to.
    let there = |since: i64| {
        format!(
        "UPDATE servers SET broker_there = TRUE,
         broker_since = CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT) - {since} WHERE id = '~'"
    )
    };
    psql(&url, &there(0)).unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(shards(), 128);
    psql(&url, &there(60_000)).unwrap();
    until("it to hold nothing", async || shards() == 0).await;
    until("it to be told", async || logs.text().contains("has no connection to the broker, and others do"))
        .await;
    assert!(is_ready(&started).await.is_ok(), "HTTP goes on");
    psql(&url, "DELETE FROM servers WHERE id = '~'").unwrap();
    until("it to have all again", async || shards() == 256).await;
    started.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_returns_to_others_that_are_set_up_otherwise_is_not_ready() {
    let Some(server) = Postgres::start() else { return };
    let (url, dir) = (server.create("fleet"), tempfile::tempdir().unwrap());
    let started = Server::start(beside_others(dir.path(), "a", &url, "mqtt://127.0.0.1:1")).await.unwrap();
    until("it to be ready", async || is_ready(&started).await.is_ok()).await;
    // As if it had stood still for so long that another took its place.
    leave_behind(&url, "other", "elsewhere", -3_600_000);
    psql(&url, "DELETE FROM servers WHERE id <> 'other'").unwrap();
    until("it to say why", async || {
        is_ready(&started).await.is_err_and(|why| why.contains("give all servers the same --mqtt"))
    })
    .await;
    assert!(!started.app().holdings.has_device("lamp"));
    psql(&url, "DELETE FROM servers; UPDATE leases SET server = NULL").unwrap();
    until("it to be one of them again", async || {
        is_ready(&started).await.is_ok() && started.app().holdings.has_device("lamp")
    })
    .await;
    started.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_returns_alone_makes_the_sweep_that_another_began_and_died_of() {
    let Some(server) = Postgres::start() else { return };
    let (url, dir, logs) = (server.create("fleet"), tempfile::tempdir().unwrap(), Logs::all());
    let started = Server::start(beside_others(dir.path(), "a", &url, "mqtt://127.0.0.1:1")).await.unwrap();
    until("it to hear devices", async || *started.app().swept.borrow()).await;
    // As if it had stood still, and another had come meanwhile, found nobody, and noted some devices as gone, not this one.
    psql(
        &url,
        "INSERT INTO devices (id, first_seen, reachable) VALUES ('lamp', 1, TRUE);
         INSERT INTO meta (key, value) VALUES ('sweep', 'other');
         UPDATE servers SET seen_at = 0",
    )
    .unwrap();
    until("it to be gone", async || psql(&url, "SELECT reachable FROM devices").unwrap() == "f").await;
    until("the end", async || {
        psql(&url, "SELECT count(*) FROM meta WHERE key = 'sweep'").unwrap() == "0"
            && *started.app().swept.borrow()
    })
    .await;
    assert!(logs.text().contains("this server stood still"));
    // Once, and it hears devices again.
    until("the broker to be tried again", async || {
        let text = logs.text();
        text.split("this server stood still")
            .last()
            .is_some_and(|text| text.contains("the broker cannot be used"))
    })
    .await;
    assert_eq!(logs.text().matches("this server stood still").count(), 1);
    started.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_returns_while_another_sweeps_hears_nothing_until_that_is_over() {
    let Some(server) = Postgres::start() else { return };
    let (url, dir) = (server.create("fleet"), tempfile::tempdir().unwrap());
    let started = Server::start(beside_others(dir.path(), "a", &url, "mqtt://127.0.0.1:1")).await.unwrap();
    let has_lamp = || started.app().holdings.has_device("lamp");
    until("it to hear devices", async || *started.app().swept.borrow() && has_lamp()).await;
    // As if it had stood still, and another had come meanwhile and found nobody.
    psql(
        &url,
        "INSERT INTO servers (id, name, broker, firmware, signer, version, started_at, seen_at)
         SELECT 'other', 'other:8080', broker, firmware, signer, version, started_at, seen_at + 3600000 FROM servers;
         INSERT INTO meta (key, value) VALUES ('sweep', 'other');
         UPDATE servers SET seen_at = 0 WHERE id <> 'other'",
    )
    .unwrap();
    until("it to stay out", async || !has_lamp()).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(psql(&url, "SELECT seen_at FROM servers WHERE id <> 'other'").unwrap(), "0");
    assert_eq!(psql(&url, "SELECT value FROM meta WHERE key = 'sweep'").unwrap(), "other");
    psql(&url, "DELETE FROM meta WHERE key = 'sweep'").unwrap();
    let shards = || started.app().holdings.shards().unwrap_or_default().len();
    until("it to have its part", async || shards() == 128).await;
    // Whoever dies in a sweep leaves it noted: one of those that are there makes it, before a server that comes later undoes what they hear.
    psql(&url, "INSERT INTO meta (key, value) VALUES ('sweep', 'dead')").unwrap();
    let noted = "SELECT count(*) FROM meta WHERE key = 'sweep'";
    until("it to be made", async || psql(&url, noted).unwrap() == "0").await;
    started.stop().await;
}

/// Tries tokens that nobody has, until a server has had enough. Returns how many it looked at.
async fn guesses(server: &Server) -> usize {
    let request = "GET /api/v1/devices HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer otaru_guess\r\nConnection: close\r\n\r\n";
    for looked_at in 0..100 {
        match status(&sends(server.http(), request.into()).await) {
            401 => {}
            429 => return looked_at,
            other => panic!("{other}"),
        }
    }
    panic!("as many as one likes")
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_logins_count_for_all_servers() {
    let Some(server) = Postgres::start() else { return };
    let (url, dir) = (server.create("fleet"), tempfile::tempdir().unwrap());
    let start = |name: &'static str| {
        let config = beside_others(dir.path(), name, &url, "mqtt://127.0.0.1:1");
        async { Server::start(config).await.unwrap() }
    };
    let (first, second) = (start("a").await, start("b").await);
    let at_first = guesses(&first).await;
    assert!(at_first >= 20, "{at_first}");
    let told = "SELECT coalesce(sum((notice::jsonb #>> '{passed,failed_logins,0,1}')::int), 0) FROM notices
                WHERE notice LIKE '%failed_logins%'";
    until("the others to be told", async || psql(&url, told).unwrap() == at_first.to_string()).await;
    // They read more often than that.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let at_second = guesses(&second).await;
    assert!(at_second < 10, "{at_second}: it has heard of those at the first");
    // Whoever has a login is let in.
    let token = first.first_token().unwrap();
    let request = format!(
        "GET /api/v1/devices HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
    );
    assert_eq!(status(&sends(second.http(), request.into()).await), 200);
    for server in [second, first] {
        server.stop().await;
    }
}
