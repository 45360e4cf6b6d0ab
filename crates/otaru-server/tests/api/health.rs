//! Alive, and ready: a server that cannot write is the one and not the other.

use std::time::Duration;

use otaru_server::db::{Connection, DbError};
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
    if !otaru_testing::postgres::is_sqlite() {
        return;
    }
    let bench = Bench::start().await;
    in_the_end(&bench, 200).await;
    let app = bench.server.app();
    // From now on each write fails, this one excepted.
    let only_reads = |tx: &Connection| tx.execute_batch("PRAGMA query_only = true");
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

/// A small disk, for as long as this is there.
#[cfg(target_os = "linux")]
struct SmallDisk(tempfile::TempDir);

#[cfg(target_os = "linux")]
impl SmallDisk {
    /// `None` where this user may mount nothing.
    fn mount(bytes: u64) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mut mount = std::process::Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"]).arg(dir.path());
        let mounted = mount.status().is_ok_and(|status| status.success());
        mounted.then_some(Self(dir))
    }
}

#[cfg(target_os = "linux")]
impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: the database may still be open in this process.
        let _ = std::process::Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_told_and_nothing_that_was_acknowledged_is_lost() {
    if !otaru_testing::postgres::is_sqlite() {
        return;
    }
    const DISK: u64 = 6 << 20;
    const ROOM: u64 = 300 << 10;
    let Some(disk) = SmallDisk::mount(DISK) else {
        eprintln!("SKIPPED: writes to a full disk: only root may mount a small one");
        return;
    };
    let bench = Bench::start_with(|config| config.data = disk.0.path().join("data")).await;
    let filler = disk.0.path().join("filler");
    let used = std::process::Command::new("du").args(["-sk"]).arg(disk.0.path()).output().unwrap();
    let used: u64 = String::from_utf8(used.stdout).unwrap().split('\t').next().unwrap().parse().unwrap();
    std::fs::write(&filler, vec![1; usize::try_from(DISK - used * 1024 - ROOM).unwrap()]).unwrap();
    let add = async |number: usize| {
        let device = serde_json::json!({"id": format!("d{number}"), "label": "x".repeat(90)});
        bench.post("/devices", device).await
    };
    let mut added = 0;
    let answer = loop {
        let answer = add(added).await;
        match answer.status.as_u16() {
            201 => added += 1,
            _ => break answer,
        }
        assert!(added < 10_000, "the disk is never full");
    };
    answer.problem(507, "disk-full");
    println!("507 after {added} writes");
    assert!(added > 0);
    let there = bench.get("/devices?limit=1").await.is(200).json();
    assert_eq!(there["total"], added, "what was acknowledged is there, and can be read");
    std::fs::remove_file(&filler).unwrap();
    add(added).await.is(201);
    let whole = |tx: &Connection| {
        let found: String = tx.query_row("PRAGMA integrity_check", (), |row| row.get(0))?;
        let devices: usize = tx.query_row("SELECT count(*) FROM devices", (), |row| row.get(0))?;
        Ok::<_, DbError>((found, devices))
    };
    assert_eq!(bench.server.app().db.read(whole).await.unwrap(), ("ok".to_owned(), added + 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_waits_is_not_waited_for_for_ever() {
    if !otaru_testing::postgres::is_sqlite() {
        return;
    }
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
