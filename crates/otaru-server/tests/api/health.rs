//! Alive, and ready: a server that cannot write is the one and not the other.

use std::time::Duration;

use otaru_server::db::DbError;
use tokio::time::{Instant, sleep};

use crate::bench::{Bench, LIMIT};
use crate::hostile::{sends, status};

async fn asks(bench: &Bench, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    sends(bench.server.http(), request.into()).await
}

/// Asks until it is answered so: an answer stands for two seconds.
async fn in_the_end(bench: &Bench, wanted: u16) -> String {
    let start = Instant::now();
    loop {
        let answer = asks(bench, "/readyz").await;
        if status(&answer) == wanted {
            return answer;
        }
        assert!(start.elapsed() < LIMIT, "{answer}");
        sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_cannot_write_is_alive_and_not_ready() {
    let bench = Bench::start().await;
    in_the_end(&bench, 200).await;
    let app = bench.server.app();
    // From now on each write fails, this one excepted.
    let only_reads =
        |tx: &rusqlite::Connection| Ok::<_, DbError>(tx.pragma_update(None, "query_only", true)?);
    app.db.write(only_reads).await.unwrap();
    let answer = in_the_end(&bench, 503).await;
    assert!(answer.contains("the database takes nothing"), "{answer}");
    assert_eq!(status(&asks(&bench, "/healthz").await), 200, "to restart it would help nobody");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_a_place_for_uploads_is_not_ready() {
    let mut folder = std::path::PathBuf::new();
    let bench = Bench::start_with(|config| folder = config.data.join("artifacts")).await;
    in_the_end(&bench, 200).await;
    let (away, there) = (folder.with_extension("away"), folder);
    std::fs::rename(&there, &away).unwrap();
    let answer = in_the_end(&bench, 503).await;
    assert!(answer.contains("the folder for firmware takes nothing"), "{answer}");
    std::fs::rename(&away, &there).unwrap();
    in_the_end(&bench, 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_waits_is_not_waited_for_for_ever() {
    let mut database = std::path::PathBuf::new();
    let bench = Bench::start_with(|config| database = config.data.join("otaru.db")).await;
    in_the_end(&bench, 200).await;
    let other = rusqlite::Connection::open(&database).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    in_the_end(&bench, 503).await;
    assert_eq!(status(&asks(&bench, "/healthz").await), 200);
    other.execute_batch("ROLLBACK").unwrap();
    in_the_end(&bench, 200).await;
}
