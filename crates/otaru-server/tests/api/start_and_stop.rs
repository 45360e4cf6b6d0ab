//! A start with a large fleet, which takes a while, and an orderly stop.

use std::path::Path;
use std::time::Duration;

use mqtt5::{ConnectOptions, MqttClient};
use otaru_broker::client::Mqtt;
use otaru_server::config::Config;
use otaru_server::server::Server;
use tokio::time::timeout;

use crate::bench::{LIMIT, Logs, config, until};
use crate::hostile::{sends, status};

/// Starts a server that cannot note, until this database's trigger `held` is dropped, that a device is gone.
async fn start_held(data: &Path, settings: impl Fn() -> Config) -> (Server, rusqlite::Connection) {
    Server::start(settings()).await.unwrap().stop().await;
    let database = rusqlite::Connection::open(data.join("otaru.db")).unwrap();
    database
        .execute_batch(
            "INSERT INTO devices (id, first_seen, reachable) VALUES ('lamp', 1, TRUE);
             CREATE TRIGGER held BEFORE UPDATE OF reachable ON devices BEGIN SELECT raise(ABORT, 'held'); END",
        )
        .unwrap();
    (Server::start(settings()).await.unwrap(), database)
}

async fn asks(server: &Server, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    sends(server.http(), request.into()).await
}

/// Connects as a device that nobody knows, which a server that is tried out lets in. Returns why not, if so.
async fn connect(server: &Server) -> Result<MqttClient, String> {
    let client = MqttClient::with_options(ConnectOptions::new("hall").with_automatic_reconnect(false));
    let connected = timeout(LIMIT, client.connect(&server.mqtt_url().to_string())).await.unwrap();
    connected.map(|_| client).map_err(|error| error.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_let_in_by_the_broker_before_it_is_heard() {
    let (dir, logs) = (tempfile::tempdir().unwrap(), Logs::all());
    let settings = || Config { dev: true, ..config(dir.path().to_owned()) };
    let (server, database) = start_held(dir.path(), settings).await;
    let refused = connect(&server).await.err().unwrap();
    assert!(refused.to_lowercase().contains("unavailable"), "{refused}");
    let why = Mqtt::connect(&server.mqtt_url(), "tool").await.err().unwrap().to_string();
    assert!(why.contains("the server cannot hear devices; its log says why"), "{why}");
    let ready = asks(&server, "/readyz").await;
    assert!(status(&ready) == 503 && ready.contains("devices are not heard"), "{ready}");
    assert_eq!(status(&asks(&server, "/healthz").await), 200, "HTTP is there");
    assert_eq!(logs.text().matches("cannot be noted as gone").count(), 1, "not with each attempt");

    database.execute_batch("DROP TRIGGER held").unwrap();
    until("it to be over", async || *server.app().swept.borrow()).await;
    connect(&server).await.unwrap();
    assert_eq!(status(&asks(&server, "/readyz").await), 200);
    let sql = "SELECT reachable FROM devices WHERE id = 'lamp'";
    until("it to be gone", async || !database.query_row(sql, (), |row| row.get(0)).unwrap_or(true)).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_comes_while_it_starts_waits_a_moment() {
    let dir = tempfile::tempdir().unwrap();
    let settings = || Config { dev: true, ..config(dir.path().to_owned()) };
    let (server, database) = start_held(dir.path(), settings).await;
    let lifts = async {
        // The other one is at the door by then.
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!*server.app().swept.borrow());
        database.execute_batch("DROP TRIGGER held").unwrap();
    };
    let (connected, ()) = tokio::join!(connect(&server), lifts);
    assert!(connected.is_ok(), "{:?}", connected.err());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_stopped_while_it_starts_ends_and_begins_no_work() {
    let (dir, logs) = (tempfile::tempdir().unwrap(), Logs::all());
    let (server, database) = start_held(dir.path(), || config(dir.path().to_owned())).await;
    // An answer of long ago, which the first pass of its work would remove.
    let sql =
        "INSERT INTO idempotency (actor, key, request, status, body, at) VALUES ('a', 'k', x'', 200, '', 1)";
    database.execute_batch(sql).unwrap();
    server.stop().await;
    assert!(!logs.text().contains("did not end in time"), "nothing waits for what is not to come");
    let kept: u32 = database.query_row("SELECT count(*) FROM idempotency", (), |row| row.get(0)).unwrap();
    assert_eq!(kept, 1, "no work is begun");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_file_of_a_stopped_server_has_everything() {
    let (dir, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let server = Server::start(config(dir.path().to_owned())).await.unwrap();
    let sql = "INSERT INTO devices (id, first_seen) VALUES ('lamp', 1)";
    server.app().db.write(move |tx| tx.execute(sql, ())).await.unwrap();
    server.stop().await;
    let file = copy.path().join("copy.db");
    std::fs::copy(dir.path().join("otaru.db"), &file).unwrap();
    let database = rusqlite::Connection::open(&file).unwrap();
    let devices: u32 = database.query_row("SELECT count(*) FROM devices", (), |row| row.get(0)).unwrap();
    assert_eq!(devices, 1);
}
