//! A whole server whose firmware is in a bucket: on good days, and while the bucket is away.

use std::path::PathBuf;

use axum::http::header;
use otaru_server::artifacts::Artifacts;
use otaru_server::artifacts::s3::S3Config;
use otaru_server::config::ArtifactsConfig;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::again::lamp;
use crate::bench::{Answer, Bench, LIMIT, Logs};
use crate::hostile::{sends, status};

#[path = "../../src/artifacts/s3/stand_in.rs"]
#[expect(dead_code, reason = "the store's own tests need more of it")]
mod stand_in;

use stand_in::{Fault, SECRET, StandIn, TOKEN};

/// A server over a bucket, and its folder of copies.
async fn over(config: S3Config) -> (Bench, PathBuf) {
    let mut copies = PathBuf::new();
    let bench = Bench::start_with(|server| {
        server.artifacts = ArtifactsConfig::S3(Box::new(config));
        copies = server.data.join("copies");
    });
    (bench.await, copies)
}

/// Asks over a socket, as devices do.
async fn asks(bench: &Bench, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    sends(bench.server.http(), request.into()).await
}

/// Waits until the server says that it is ready, or is not, with these words.
async fn ready(bench: &Bench, wanted: u16, words: &str) {
    let start = Instant::now();
    loop {
        let answer = asks(bench, "/readyz").await;
        if status(&answer) == wanted && answer.contains(words) {
            return;
        }
        assert!(start.elapsed() < LIMIT, "{answer}");
        sleep(std::time::Duration::from_millis(100)).await;
    }
}

/// The path of what devices are sent to.
fn path_of(uploaded: &Answer) -> String {
    format!("/files/{}/lamp.bin", uploaded.json()["raw"].as_str().unwrap())
}

fn files(folder: &std::path::Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

async fn releases(bench: &Bench) -> Value {
    bench.get("/releases").await.is(200).json()["total"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn firmware_comes_from_a_bucket_as_from_a_folder() {
    let bucket = StandIn::start().await;
    let (bench, copies) = over(bucket.config()).await;
    ready(&bench, 200, "").await;
    let uploaded = bench.try_upload(lamp("1.0.0")).await.is(201);
    assert!(bucket.names().iter().any(|name| name.starts_with("a/prefix/")));
    let path = path_of(&uploaded);
    for file in files(&copies) {
        std::fs::remove_file(file).unwrap();
    }
    let answer = asks(&bench, &path).await;
    assert_eq!(status(&answer), 200, "{answer}");
    assert_eq!(files(&copies).len(), 1);
    // Names that somebody made up cost nothing at the bucket.
    let before = bucket.asked("GET");
    for n in 0..20 {
        let answer = asks(&bench, &format!("/files/{n:064x}/x")).await;
        assert_eq!(status(&answer), 404);
    }
    assert_eq!(bucket.asked("GET"), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_starts_without_its_bucket_and_says_so() {
    let logs = Logs::all();
    let bucket = StandIn::start().await;
    bucket.misbehaves(Fault::Gone);
    let (bench, copies) = over(bucket.config()).await;
    ready(&bench, 503, "the bucket is away").await;
    assert_eq!(status(&asks(&bench, "/healthz").await), 200, "to restart it would help nobody");
    bucket.misbehaves(Fault::Status(403, "InvalidAccessKeyId"));
    ready(&bench, 503, "InvalidAccessKeyId: it does not know the access key; correct the credentials").await;
    let upload = bench.try_upload(lamp("1.0.0")).await.problem(503, "store-away");
    assert_eq!(upload.headers[header::RETRY_AFTER], "10");
    assert_eq!((files(&copies).len(), releases(&bench).await), (0, 0.into()), "nothing is left behind");
    bucket.behaves();
    ready(&bench, 200, "").await;
    bench.try_upload(lamp("1.0.0")).await.is(201);
    let log = logs.text();
    assert!(log.contains("no firmware can be uploaded, and none downloaded but what has a copy here"));
    assert!(log.contains("a file cannot be put into the bucket") && log.contains("InvalidAccessKeyId"));
    assert!(!log.contains(SECRET) && !log.contains(TOKEN), "no secret in any line");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_a_copy_is_downloaded_while_the_bucket_is_away_and_the_rest_later() {
    let bucket = StandIn::start().await;
    let (bench, copies) = over(bucket.config()).await;
    let there = path_of(&bench.try_upload(lamp("1.0.0")).await.is(201));
    let before = files(&copies);
    let gone = path_of(&bench.try_upload(lamp("1.0.1")).await.is(201));
    for file in files(&copies).into_iter().filter(|file| !before.contains(file)) {
        std::fs::remove_file(file).unwrap();
    }
    bucket.misbehaves(Fault::Gone);
    assert_eq!(status(&asks(&bench, &there).await), 200);
    let answer = asks(&bench, &gone).await.to_lowercase();
    assert_eq!(status(&answer), 503, "{answer}");
    assert!(answer.contains("retry-after: 10") && answer.contains("store-away"), "{answer}");
    bench.try_upload(lamp("1.0.2")).await.problem(503, "store-away");
    assert_eq!(releases(&bench).await, 2);
    // Other bytes are as bad as none.
    bucket.misbehaves(Fault::OtherBytes);
    let answer = asks(&bench, &gone).await;
    assert!(status(&answer) == 503 && answer.contains("file-damaged"), "{answer}");
    bucket.behaves();
    assert_eq!(status(&asks(&bench, &gone).await), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_the_bucket_has_lost_is_told_to_who_asks() {
    let bucket = StandIn::start().await;
    let (bench, copies) = over(bucket.config()).await;
    let path = path_of(&bench.try_upload(lamp("1.0.0")).await.is(201));
    bucket.loses_all();
    for file in files(&copies) {
        std::fs::remove_file(file).unwrap();
    }
    let answer = asks(&bench, &path).await;
    assert!(status(&answer) == 404 && answer.contains("file-lost"), "{answer}");
    assert!(answer.contains("upload its firmware again"), "{answer}");
    bench.try_upload(lamp("1.0.0")).await.is(200);
    assert_eq!(status(&asks(&bench, &path).await), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_redirects_who_downloads_is_sent_to_the_bucket() {
    let bucket = StandIn::start().await;
    let (bench, _) = over(S3Config { redirect: true, ..bucket.config() }).await;
    let path = path_of(&bench.try_upload(lamp("1.0.0")).await.is(201));
    let answer = asks(&bench, &path).await;
    assert_eq!(status(&answer), 307, "{answer}");
    let link = answer.lines().find_map(|line| line.strip_prefix("location: ")).unwrap();
    assert!(link.contains("X-Amz-Expires=900") && link.contains("X-Amz-Signature="), "{link}");
    assert!(!link.contains(SECRET), "{link}");
    assert!(answer.contains("cache-control: no-store"), "{answer}");
    let (_, after) = link.trim().split_once("localhost:").unwrap();
    let (port, path) = after.split_once('/').unwrap();
    let request = format!("GET /{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let address = ([127, 0, 0, 1], port.parse().unwrap()).into();
    assert_eq!(status(&sends(address, request.into()).await), 200);
    // What is not known leads nowhere.
    assert_eq!(status(&asks(&bench, &format!("/files/{}/x", "0".repeat(64))).await), 404);
}

/// Waits until something is so.
async fn eventually(is: impl Fn() -> bool) {
    let start = Instant::now();
    while !is() {
        assert!(start.elapsed() < LIMIT);
        sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn old_objects_that_no_release_names_are_removed_but_not_those_of_another_database() {
    let logs = Logs::all();
    let bucket = StandIn::start().await;
    let folder = tempfile::tempdir().unwrap();
    let killed = Artifacts::open_bucket(&bucket.config(), folder.path(), 0).await.unwrap();
    // Left by a process that was killed before its database knew of it.
    killed.put("left".into()).await.unwrap();
    let left = bucket.names();
    bucket.ages();
    let (bench, _) = over(bucket.config()).await;
    eventually(|| !bucket.names().contains(&left[0])).await;
    bench.try_upload(lamp("1.0.0")).await.is(201);
    let kept = bucket.names();
    bucket.ages();
    let (_other, _) = over(bucket.config()).await;
    eventually(|| logs.text().contains("another database keeps its firmware at this place of the bucket"))
        .await;
    assert_eq!(bucket.names(), kept);
}
