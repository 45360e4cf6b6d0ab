//! Uploads, jobs and what becomes of releases, through the handlers of the API.

use std::path::Path;
use std::time::Duration;

use axum::body::Body;
use axum::http::{self, Request};
use axum::response::Response;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use otaru_api::{Event, Job, JobState, NewToken, Release, Role};
use otaru_format::digest::Digest;
use otaru_release::build::Options;
use otaru_release::keys::SecretKey;
use otaru_release::verify::{try_patches, verify};
use otaru_rollout::Time;
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use super::samples::image;
use super::*;
use crate::access::tokens;
use crate::address::{DeviceBases, Listening};
use crate::app::{App, Parts, Shared};
use crate::artifacts::{Artifacts, DEFAULT_CACHE};
use crate::clock::Clock;
use crate::config::{Config, MqttConfig};
use crate::db::{Connection, Db, DbError, params};

fn key() -> SecretKey {
    SecretKey::from_seed(&[7; 32])
}

fn open(folder: &Path, keys: Keys) -> Shared {
    let loopback = ([127, 0, 0, 1], 0).into();
    let config = Config {
        data: folder.to_owned(),
        http: loopback,
        tls: None,
        mqtt: MqttConfig::Embedded { listen: loopback },
        base: "ESP32/ota".into(),
        public_url: None,
        trusted_proxies: Vec::new(),
        dev: false,
        guests: false,
        signing_key: None,
        trusted_keys: Vec::new(),
        device_limits: crate::devices::bounds::Bounds::default(),
        upload_limits: UploadLimits { bytes: 1 << 20, ..UploadLimits::default() },
        http_limits: crate::http::Limits::default(),
        metrics: None,
        home_assistant: None,
    };
    Shared::new(App::new(Parts {
        config,
        db: Db::open(&folder.join("otaru.db")).unwrap(),
        artifacts: Artifacts::open(&folder.join("artifacts"), DEFAULT_CACHE).unwrap(),
        keys,
        clock: Clock::new(|| Time(1_000)),
        public_base: "http://localhost".into(),
        device_bases: DeviceBases::new("http://localhost", Listening { http: None, https: None }),
    }))
}

/// A server in a folder of its own, and tokens for it.
struct Server {
    folder: tempfile::TempDir,
    app: Shared,
}

impl Server {
    fn new(signer: Option<SecretKey>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let app = open(folder.path(), Keys::new(signer, Vec::new()));
        Self { folder, app }
    }

    async fn token(&self, role: Role) -> String {
        let new = NewToken { name: "ada".into(), role, expires_at: None };
        let write = move |tx: &Connection| tokens::create(tx, new, "test", Time(0));
        self.app.db.write(write).await.unwrap().1
    }

    async fn send(&self, request: http::request::Builder, body: Body) -> Response {
        crate::api::router(self.app.clone()).oneshot(request.body(body).unwrap()).await.unwrap()
    }

    /// Status and JSON of an answer to a token with this role.
    async fn ask(&self, role: Role, method: &str, path: &str, body: impl Into<Body>) -> (u16, Value) {
        let bearer = format!("Bearer {}", self.token(role).await);
        let request = Request::builder().method(method).uri(format!("/api/v1{path}"));
        let request = request.header("authorization", bearer).header("content-type", "application/json");
        let answer = self.send(request, body.into()).await;
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap())
    }

    async fn upload_with(&self, bytes: &[u8], query: &str) -> (u16, Value) {
        self.ask(Role::Operator, "POST", &format!("/releases?{query}"), bytes.to_vec()).await
    }

    async fn upload(&self, bytes: &[u8]) -> (u16, Value) {
        self.upload_with(bytes, "").await
    }

    async fn release(&self, id: i64) -> Release {
        self.app.db.read(move |tx| rows::get(tx, id)).await.unwrap().unwrap()
    }

    async fn build(&self, id: i64, role: Role, replace: bool) -> (u16, Value) {
        self.ask(role, "POST", &format!("/releases/{id}/build?replace={replace}"), "").await
    }

    /// Actions on a release in the audit log.
    async fn audited(&self, id: i64) -> Vec<String> {
        let sql = "SELECT action FROM audit WHERE object = ?1 AND actor = 'ada' ORDER BY id";
        let read = move |tx: &Connection| {
            let mut rows = tx.prepare(sql)?;
            let rows = rows.query_map([format!("release/{id}")], |row| row.get(0))?;
            Ok::<_, DbError>(rows.collect::<Result<_, _>>()?)
        };
        self.app.db.read(read).await.unwrap()
    }

    async fn file_for(&self, image: &[u8]) -> Option<(Digest, String)> {
        let image = Digest::of(image);
        self.app.db.read(move |tx| file_for(tx, image)).await.unwrap()
    }

    /// A device that runs this image.
    async fn device(&self, id: &'static str, image: &[u8]) {
        let image = Digest::of(image);
        let insert = "INSERT INTO devices (id, first_seen, image) VALUES (?1, 0, ?2)";
        let write = move |tx: &Connection| {
            tx.execute(insert, params![id, image.0])?;
            Ok::<_, DbError>(())
        };
        self.app.db.write(write).await.unwrap();
    }

    /// Works until the release's job has ended.
    async fn work(&self, id: i64) -> Job {
        let stop = CancellationToken::new();
        let _stop = stop.clone().drop_guard();
        let mut events = self.app.events.listen();
        tokio::spawn(jobs::run(self.app.clone(), stop));
        loop {
            if let Some(job) = self.release(id).await.job.filter(|job| job.ended_at.is_some()) {
                return job;
            }
            let _ = tokio::time::timeout(Duration::from_millis(100), events.recv()).await;
        }
    }

    async fn bytes(&self, digest: Option<Digest>) -> Bytes {
        self.app.artifacts.read_whole(digest.unwrap()).await.unwrap()
    }

    /// Files in the store, those that are still being written included.
    fn files(&self) -> usize {
        fn count(folder: &Path) -> usize {
            let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
            entries.map(|path| if path.is_dir() { count(&path) } else { 1 }).sum()
        }
        count(&self.folder.path().join("artifacts"))
    }
}

fn release_file(image: &[u8], sequence: u64, product: Option<&str>, key: &SecretKey) -> Vec<u8> {
    let options = Options { product: product.map(str::to_owned), ..Options::new(sequence) };
    otaru_release::build::build(image, &options, &mut |_| {}).unwrap().sign(key).unwrap()
}

#[tokio::test]
async fn an_image_becomes_a_release_and_stays_one() {
    let (server, one) = (Server::new(None), image("lamp", "1.0.0", 1));
    let (status, release) = server.upload(&one).await;
    assert_eq!(status, 201);
    let told = |name: &str| release[name].as_str().unwrap().to_owned();
    assert_eq!(told("product"), "lamp");
    assert_eq!(
        (told("version"), told("chip"), told("created_by")),
        ("1.0.0".into(), "esp32c3".into(), "ada".into())
    );
    assert_eq!(told("image"), Digest::of(&one).to_string());
    let (status, again) = server.upload(&one).await;
    assert_eq!((status, again, server.files()), (200, release, 1));
    let (digest, name) = server.file_for(&one).await.unwrap();
    assert_eq!((digest, name.as_str()), (Digest::of(&one), "lamp-1.0.0.bin"));
    assert_eq!(server.file_for(b"another").await, None);
    assert_eq!(server.bytes(Some(digest)).await, one);
}

#[tokio::test]
async fn what_fills_a_file_up_is_cut_and_a_signature_block_stays() {
    let server = Server::new(None);
    let good = image("lamp", "1.0.0", 1);
    let padded = [&good[..], &vec![0xFF; 500_000]].concat();
    let raw = |id: i64| {
        let sql = "SELECT a.size FROM releases r JOIN artifacts a ON a.digest = r.raw WHERE r.id = ?";
        server.app.db.read(move |tx| Ok::<u64, DbError>(tx.query_row(sql, [id], |row| row.get(0))?))
    };
    let (status, release) = server.upload(&padded).await;
    let id = release["id"].as_i64().unwrap();
    assert_eq!(status, 201);
    assert!(release["needs"]["min_revision"].is_u64(), "{release}");
    assert!(
        release["remarks"][0].as_str().unwrap().starts_with("500000 bytes behind the image"),
        "{release}"
    );
    assert_eq!(raw(id).await.unwrap(), good.len() as u64);

    // What was kept whole by mistake is repaired by the same image.
    let (digest, size) = (Digest::of(&padded), padded.len() as u64);
    let write = move |tx: &Connection| {
        tx.execute(
            "INSERT INTO artifacts (digest, size, used_at) VALUES (?, ?, 0)",
            params![digest.0, size],
        )?;
        tx.execute("UPDATE releases SET raw = ? WHERE id = ?", params![digest.0, id])?;
        Ok::<_, DbError>(())
    };
    server.app.db.write(write).await.unwrap();
    let (status, release) = server.upload(&good).await;
    assert_eq!((status, release["remarks"].as_array().unwrap().len()), (200, 0), "{release}");
    assert_eq!(raw(id).await.unwrap(), good.len() as u64);

    // A signature block is part of what secure boot wants, whatever came first or comes later.
    let mut signed = good.clone();
    signed.resize(good.len().next_multiple_of(4096), 0xFF);
    signed.extend([&[0xE7, 2, 0, 0][..], &[0; 4092]].concat());
    let len = signed.len() as u64;
    let (_, release) = server.upload(&[&signed[..], &[0xFF; 100]].concat()).await;
    assert_eq!(release["remarks"].as_array().unwrap().len(), 2, "{release}");
    assert_eq!(raw(id).await.unwrap(), len);
    server.upload(&good).await;
    assert_eq!(raw(id).await.unwrap(), len);

    // It is told that an upload does not take back that it was taken back.
    server.ask(Role::Operator, "POST", &format!("/releases/{id}/yank"), "{}").await;
    let (_, release) = server.upload(&good).await;
    assert!(release["remarks"][0].as_str().unwrap().contains("un-yank"), "{release}");
}

#[tokio::test]
async fn what_is_refused_leaves_nothing() {
    let (server, good) = (Server::new(None), image("lamp", "1.0.0", 1));
    let large = vec![0xE9; (1 << 20) + 1];
    let wrong = format!("sha256={}", Digest::ZERO);
    for (bytes, query, status, words) in [
        (&good[..good.len() - 50], "", 422, "lamp.bin: it is no good ESP image: the image ends early"),
        (b"\x7fELF", "", 422, "save-image"),
        (&large, "", 413, "larger"),
        (&good, &*wrong, 422, "send it again"),
        (&good, "sha256=1234", 400, "64 hexadecimal digits"),
        (&good, "colour=red", 422, "colour"),
    ] {
        let (told, problem) = server.upload_with(bytes, &format!("filename=lamp.bin&{query}")).await;
        assert_eq!((told, server.files()), (status, 0), "{problem}");
        assert!(problem["detail"].as_str().unwrap().contains(words), "{problem}");
    }
    let zipped = Request::post("/api/v1/releases").header("content-encoding", "gzip");
    let bearer = format!("Bearer {}", server.token(Role::Operator).await);
    let zipped = server.send(zipped.header("authorization", bearer), Body::from(good.clone())).await;
    assert_eq!((zipped.status().as_u16(), server.files()), (415, 0));
    let nobody = server.send(Request::post("/api/v1/releases"), Body::from(good.clone())).await;
    assert_eq!((nobody.status().as_u16(), server.files()), (401, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_leaves_nothing() {
    let server = Server::new(None);
    let listener = crate::http::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = server.app.stop.clone();
    let (router, rules) = (crate::api::router(server.app.clone()), crate::http::Rules::default());
    let serving = tokio::spawn(crate::http::serve(listener, router, rules, stop.clone()));
    let mut client = tokio::net::TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST /api/v1/releases HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {}\r\nContent-Length: 50000\r\n\r\n",
        server.token(Role::Operator).await
    );
    client.write_all(head.as_bytes()).await.unwrap();
    client.write_all(&image("lamp", "1.0.0", 1)[..20_000]).await.unwrap();
    until(|| server.files() == 1).await;
    drop(client);
    until(|| server.files() == 0).await;
    stop.cancel();
    serving.await.unwrap();
}

/// Waits until something is so; for ever, if it never is.
async fn until(is: impl Fn() -> bool) {
    while !is() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn every_route_asks_for_a_token_that_may() {
    let server = Server::new(Some(key()));
    server.upload(&image("lamp", "1.0.0", 1)).await;
    for (method, path, needed) in [
        ("GET", "/releases", Role::Viewer),
        ("POST", "/releases", Role::Operator),
        ("GET", "/releases/1", Role::Viewer),
        ("PATCH", "/releases/1", Role::Operator),
        ("POST", "/releases/1/yank", Role::Operator),
        ("POST", "/releases/1/unyank", Role::Operator),
        ("POST", "/releases/1/build", Role::Operator),
        ("POST", "/releases/1/build?replace=true", Role::Admin),
        ("GET", "/releases/1/file", Role::Viewer),
    ] {
        let request = Request::builder().method(method).uri(format!("/api/v1{path}"));
        let request = request.header("content-type", "application/json");
        let answer = server.send(request, Body::from(r#"{"notes": ""}"#)).await;
        assert_eq!(answer.status().as_u16(), 401, "{method} {path}");
        for weak in [Role::Viewer, Role::Operator].into_iter().filter(|role| *role < needed) {
            let (status, problem) = server.ask(weak, method, path, r#"{"notes": ""}"#).await;
            assert_eq!(status, 403, "{method} {path}: {problem}");
        }
    }
    assert_eq!(server.audited(1).await, ["release.upload"]);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_full_disk_is_told_and_nothing_is_left() {
    let server = Server::new(None);
    let small = server.folder.path().join("artifacts");
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=32k", "tmpfs"])
        .arg(&small)
        .status()
        .is_ok_and(|status| status.success());
    if !mounted {
        eprintln!("SKIPPED: an upload to a full disk: only root may mount a small one");
        return;
    }
    let _unmount = Unmount(small.clone());
    std::fs::create_dir(small.join("incoming")).unwrap();
    let good = image("lamp", "1.0.0", 1);
    assert!(good.len() > 32 << 10);
    let (status, problem) = server.upload(&good).await;
    assert_eq!((status, &problem["type"]), (507, &Value::from("urn:otaru:problem:disk-full")));
    assert_eq!(server.files(), 0);
    assert_eq!(server.ask(Role::Viewer, "GET", "/releases", "").await.1["total"], 0);
}

struct Unmount(std::path::PathBuf);

impl Drop for Unmount {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg(&self.0).status();
    }
}

#[tokio::test]
async fn both_kinds_of_file_complete_each_other() {
    let (one, theirs) = (image("lamp", "1.0.0", 1), SecretKey::from_seed(&[9; 32]));
    let file = release_file(&one, 5, None, &theirs);
    for order in [[&one, &file], [&file, &one]] {
        let server = Server::new(None);
        assert_eq!(server.upload(order[0]).await.0, 201);
        assert_eq!(server.upload(order[1]).await.0, 200);
        let release = server.release(1).await;
        assert_eq!((release.raw, release.file), (Some(Digest::of(&one)), Some(Digest::of(&file))));
        assert_eq!((release.sequence, release.built), (Some(5), false));
        assert_eq!(release.signed_by, Some(theirs.public().id().to_string()));
        assert_eq!(release.file_size, Some(file.len() as u64));
        assert!(release.compressed_size.is_some_and(|size| size < one.len() as u64));
        assert_eq!(server.file_for(&one).await.unwrap(), (Digest::of(&file), "lamp-1.0.0.otaru".into()));
    }
}

#[tokio::test]
async fn a_release_file_that_contradicts_is_refused() {
    let (server, one, key) = (Server::new(None), image("lamp", "1.0.0", 1), key());
    server.upload(&release_file(&one, 5, None, &key)).await;
    for (file, words) in [
        (release_file(&one, 4, None, &key), "sequence 5"),
        (release_file(&one, 6, Some("lantern"), &key), "lantern 1.0.0 for esp32c3"),
        // A sequence is one image's.
        (release_file(&image("lamp", "1.1.0", 2), 5, None, &key), "--sequence 6"),
    ] {
        let (status, problem) = server.upload(&file).await;
        assert_eq!(status, 409);
        assert!(problem["detail"].as_str().unwrap().contains(words), "{problem}");
    }
    let newer = release_file(&one, 6, None, &key);
    assert_eq!(server.upload(&newer).await.0, 200);
    assert_eq!(server.release(1).await.file, Some(Digest::of(&newer)));
}

#[tokio::test]
async fn with_a_key_only_trusted_signatures_are_taken() {
    let (server, one) = (Server::new(Some(key())), image("lamp", "1.0.0", 1));
    let foreign = release_file(&one, 1, None, &SecretKey::from_seed(&[9; 32]));
    let (status, problem) = server.upload(&foreign).await;
    assert_eq!((status, server.files()), (422, 0));
    assert!(problem["detail"].as_str().unwrap().contains("none of the keys"), "{problem}");
    assert_eq!(server.upload(&release_file(&one, 1, None, &key())).await.0, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_makes_a_file_that_devices_take_with_patches_from_what_they_run() {
    let server = Server::new(Some(key()));
    let (old, new) = (image("lamp", "1.0.0", 1), image("lamp", "1.1.0", 2));
    server.upload(&old).await;
    assert_eq!(server.work(1).await.state, JobState::Done);
    server.device("a", &old).await;
    server.device("b", &old).await;
    server.device("c", b"unknown here").await;
    let mut events = server.app.events.listen();
    server.upload(&new).await;
    let job = server.work(2).await;
    assert_eq!(job.state, JobState::Done, "{job:?}");
    let release = server.release(2).await;
    assert!(release.built && release.signed_by == Some(key().public().id().to_string()));
    assert_eq!((release.sequence, server.release(1).await.sequence), (Some(1001), Some(1000)));
    assert_eq!((release.devices, server.release(1).await.devices), (0, 2));
    let file = server.bytes(release.file).await;
    let verified = verify(&file, &[key().public()]).unwrap();
    assert_eq!(verified.file.manifest.image, Digest::of(&new));
    assert_eq!(try_patches(&verified.file, std::slice::from_ref(&old)).unwrap().untried, 0);
    let [delta] = &release.deltas[..] else { panic!("{release:?}") };
    assert_eq!((delta.base, delta.version.as_deref()), (Digest::of(&old), Some("1.0.0")));
    assert!(delta.size < release.compressed_size.unwrap());
    // The last is told after the job has ended.
    let mut states = Vec::new();
    while states.last().is_none_or(|state| state == "running") {
        if let Event::Job { release: 2, state, .. } = events.recv().await.unwrap() {
            states.push(state);
        }
    }
    assert_eq!(states.first().map(String::as_str), Some("running"));
    assert_eq!(states.last().map(String::as_str), Some("done"));
}

#[tokio::test(flavor = "multi_thread")]
async fn more_patches_are_made_when_the_fleet_runs_other_images() {
    let server = Server::new(Some(key()));
    let images: Vec<_> = (1..=3).map(|n| image("lamp", &format!("1.{n}.0"), n)).collect();
    for (image, id) in images.iter().zip(1..) {
        server.upload(image).await;
        server.work(id).await;
    }
    let first = server.release(3).await;
    assert_eq!(first.deltas, []);
    let ask = || server.app.db.write(|tx| jobs::ask_for_patches(tx, Time(2_000)));
    ask().await.unwrap();
    assert_eq!(server.release(3).await.job, first.job, "nothing is missing");
    server.device("a", &images[0]).await;
    ask().await.unwrap();
    assert_eq!(
        server.release(2).await.job.unwrap().state,
        JobState::Done,
        "not what is given to devices now"
    );
    server.work(3).await;
    let second = server.release(3).await;
    assert_eq!(second.deltas.len(), 1);
    assert_eq!(second.sequence, first.sequence, "it is the same release");
    assert_ne!(second.file, first.file);
    server.bytes(first.file).await;
    ask().await.unwrap();
    assert_eq!(server.release(3).await.job, second.job, "nothing is missing any longer");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_base_that_no_patch_can_start_from_is_tried_once() {
    let server = Server::new(Some(key()));
    // Its project has another name than the product it is released as.
    let odd = image("lantern", "0.9.0", 1);
    server.upload(&release_file(&odd, 1, Some("lamp"), &key())).await;
    server.device("a", &odd).await;
    server.upload(&image("lamp", "1.0.0", 2)).await;
    assert_eq!(server.work(2).await.state, JobState::Done);
    let release = server.release(2).await;
    assert_eq!((release.deltas.len(), release.sequence), (0, Some(1000)));
    server.app.db.write(|tx| jobs::ask_for_patches(tx, Time(2_000))).await.unwrap();
    assert_eq!(server.release(2).await.job, release.job);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_was_killed_is_done_after_a_restart() {
    let server = Server::new(Some(key()));
    server.upload(&image("lamp", "1.0.0", 1)).await;
    // What a process that is killed leaves: the job has begun, the release has its number, and nothing else is there.
    server.app.db.write(|tx| jobs::take(tx, Time(0))).await.unwrap().unwrap();
    let Server { folder, app } = server;
    let job = app.db.read(|tx| super::job::Job::latest(tx, 1)).await.unwrap().unwrap();
    assert_eq!((job.state, job.ended_at), (JobState::Running, None));
    drop(app);
    let app = open(folder.path(), Keys::new(Some(key()), Vec::new()));
    let server = Server { folder, app };
    assert_eq!(server.work(1).await.state, JobState::Done);
    let release = server.release(1).await;
    verify(&server.bytes(release.file).await, &[key().public()]).unwrap();
    assert_eq!(release.sequence, Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_signed_elsewhere_stays_unless_an_admin_says_so() {
    let server = Server::new(Some(key()));
    let one = image("lamp", "1.0.0", 1);
    let outside = release_file(&one, 8, None, &key());
    server.upload(&one).await;
    // It comes while the job waits.
    server.upload(&outside).await;
    let job = server.work(1).await;
    assert!(job.detail.contains("stays"), "{job:?}");
    assert_eq!(server.release(1).await.file, Some(Digest::of(&outside)));
    assert_eq!(server.build(1, Role::Operator, false).await.0, 409);
    assert_eq!(server.build(1, Role::Operator, true).await.0, 403);
    assert_eq!(server.build(1, Role::Admin, true).await.0, 202);
    assert_eq!(server.work(1).await.state, JobState::Done);
    let release = server.release(1).await;
    assert!(release.built && release.sequence == Some(8), "{release:?}");
    // And a server's own file makes way for one that was signed elsewhere.
    let newer = release_file(&one, 9, None, &key());
    assert_eq!(server.upload(&newer).await.0, 200);
    assert_eq!(server.release(1).await.file, Some(Digest::of(&newer)));
}

#[tokio::test]
async fn what_changes_after_it_was_looked_at_is_looked_at_again() {
    let server = Server::new(Some(key()));
    let (one, two) = (image("lamp", "1.0.0", 1), image("lamp", "1.1.0", 2));
    server.upload(&release_file(&one, 5, None, &key())).await;
    let image = Digest::of(&one);
    let prepared = async || {
        let outdated = vec![again::Outdated { release: 1, had: 2_000 }];
        let found = move |tx: &Connection| again::OutdatedReleases::new(tx, [image].into(), outdated);
        let found = server.app.db.read(found).await.unwrap();
        again::prepare(&server.app, found, again::When::Now).await.unwrap()
    };
    let apply = async |prepared: again::Prepared| {
        server
            .app
            .db
            .write(move |tx| prepared.apply(tx, Time(1_000)))
            .await
            .map_err(|problem| problem.into_details().detail)
    };
    // A release with the sequence comes, a device has had a higher one, or the file was replaced meanwhile.
    let before = prepared().await;
    server.upload(&release_file(&two, 9_000, None, &key())).await;
    assert!(apply(before).await.unwrap_err().contains("changed meanwhile"));
    let before = prepared().await;
    server.device("hall", &two).await;
    let had = |tx: &Connection| {
        Ok::<_, DbError>(tx.execute("UPDATE devices SET had = 9000, product = 'lamp'", [])?)
    };
    server.app.db.write(had).await.unwrap();
    assert!(apply(before).await.unwrap_err().contains("changed meanwhile"));
    let before = prepared().await;
    server.upload(&release_file(&one, 6, None, &key())).await;
    assert!(apply(before).await.unwrap_err().contains("changed meanwhile"));
    assert_eq!(server.release(1).await.sequence, Some(6));
    apply(prepared().await).await.unwrap();
    assert_eq!(server.release(1).await.sequence, Some(9_001));
}

#[tokio::test]
async fn nothing_is_built_without_a_key_or_twice() {
    let server = Server::new(None);
    server.upload(&image("lamp", "1.0.0", 1)).await;
    assert_eq!(server.build(1, Role::Operator, false).await.0, 409);
    assert_eq!(server.release(1).await.job, None);
    let server = Server::new(Some(key()));
    server.upload(&image("lamp", "1.0.0", 1)).await;
    let asked = server.release(1).await.job.unwrap();
    assert_eq!(server.build(1, Role::Operator, false).await, (202, serde_json::to_value(&asked).unwrap()));
    let (_, replacing) = server.build(1, Role::Admin, true).await;
    assert_eq!((&replacing["id"], &replacing["kind"]), (&asked.id.into(), &"replace".into()));
    assert_eq!(server.build(2, Role::Operator, false).await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_fails_says_why() {
    let server = Server::new(Some(key()));
    server.upload(&image("lamp", "1.0.0", 1)).await;
    let raw = server.release(1).await.raw.unwrap();
    server.app.artifacts.remove(raw).await.unwrap();
    let job = server.work(1).await;
    assert_eq!(job.state, JobState::Failed);
    assert!(job.detail.contains(&raw.to_string()), "{job:?}");
}

#[tokio::test]
async fn a_yanked_release_is_offered_to_nobody() {
    let (server, one) = (Server::new(None), image("lamp", "1.0.0", 1));
    server.upload(&one).await;
    let post = async |path: &str| server.ask(Role::Operator, "POST", path, "").await;
    let (_, yanked) = post("/releases/1/yank").await;
    assert_eq!(yanked["yanked_at"], "1970-01-01T00:00:01.000Z");
    assert_eq!(post("/releases/1/yank").await, (200, yanked));
    assert_eq!(server.file_for(&one).await, None);
    server.upload(&one).await;
    assert_eq!(server.file_for(&one).await, None, "the same again does not give it back");
    // Its file is still there for whoever has the link.
    let file = rows::offered_file(&server.release(1).await).unwrap().0;
    assert_eq!(server.bytes(Some(file)).await, one);
    let (_, given) = post("/releases/1/unyank").await;
    assert_eq!(given["yanked_at"], Value::Null);
    assert!(server.file_for(&one).await.is_some());
    assert_eq!(post("/releases/2/yank").await.0, 404);
    assert_eq!(post("/releases/x/yank").await.0, 404);
    let done = server.audited(1).await;
    assert_eq!(done, ["upload", "yank", "yank", "upload", "unyank"].map(|what| format!("release.{what}")));
}

#[tokio::test]
async fn notes_can_be_changed() {
    let server = Server::new(None);
    server.upload_with(&image("lamp", "1.0.0", 1), "notes=first%20try").await;
    assert_eq!(server.release(1).await.notes, "first try");
    let patch = async |path, body: String| server.ask(Role::Operator, "PATCH", path, body).await;
    let (status, release) = patch("/releases/1", r#"{"notes": "better"}"#.into()).await;
    assert_eq!((status, &release["notes"]), (200, &"better".into()));
    assert_eq!(patch("/releases/2", r#"{"notes": ""}"#.into()).await.0, 404);
    assert_eq!(patch("/releases/1", r#"{"notes": "", "version": "2"}"#.into()).await.0, 422);
    assert_eq!(patch("/releases/1", format!(r#"{{"notes": "{}"}}"#, "x".repeat(20_000))).await.0, 422);
    assert_eq!(server.release(1).await.notes, "better");
}

#[tokio::test]
async fn lists_are_filtered_and_come_in_pages() {
    let server = Server::new(None);
    for n in 1..=5 {
        server.upload(&image("lamp", &format!("1.{n}.0"), n)).await;
    }
    server.upload(&image("clock", "1.1.0", 9)).await;
    let list = async |query: &str| {
        let (status, page) = server.ask(Role::Viewer, "GET", &format!("/releases?{query}"), "").await;
        assert_eq!(status, 200, "{query}: {page}");
        let ids: Vec<i64> =
            page["items"].as_array().unwrap().iter().map(|r| r["id"].as_i64().unwrap()).collect();
        (ids, page["next"].as_str().map(str::to_owned), page["total"].as_u64().unwrap())
    };
    assert_eq!(list("").await, (vec![6, 5, 4, 3, 2, 1], None, 6));
    let (ids, next, total) = list("product=lamp&limit=2").await;
    assert_eq!((ids, total), (vec![5, 4], 5));
    let (ids, next, _) = list(&format!("product=lamp&limit=2&cursor={}", next.unwrap())).await;
    assert_eq!(ids, [3, 2]);
    let last = list(&format!("product=lamp&limit=2&cursor={}", next.unwrap())).await;
    assert_eq!(last, (vec![1], None, 5));
    assert_eq!(list("version=1.1.0&chip=esp32c3").await.0, [6, 1]);
    server.ask(Role::Operator, "POST", "/releases/3/yank", "").await;
    assert_eq!(list("yanked=true").await.0, [3]);
    assert_eq!(list("yanked=false").await.2, 5);
    for bad in ["limit=0", "limit=1001", "cursor=x';--", "yanked=perhaps"] {
        assert_eq!(server.ask(Role::Viewer, "GET", &format!("/releases?{bad}"), "").await.0, 422, "{bad}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_nothing_refers_to_go_after_a_while() {
    const WEEK: u64 = 7 * 24 * 3_600 * 1_000;
    let (server, one) = (Server::new(None), image("lamp", "1.0.0", 1));
    let (first, second) = (release_file(&one, 5, None, &key()), release_file(&one, 6, None, &key()));
    server.upload(&first).await;
    server.upload(&second).await;
    // What a process leaves that is killed before it could write to the database.
    server.app.artifacts.put(Bytes::from_static(b"never noted")).await.unwrap();
    assert_eq!(server.files(), 4);
    let prune_at = async |millis| {
        let app = open(server.folder.path(), Keys::default());
        let app = App { clock: Clock::new(move || Time(millis)), ..Shared::into_inner(app).unwrap() };
        prune::prune(&app).await.unwrap();
    };
    prune_at(1_000 + WEEK).await;
    assert_eq!(server.files(), 3, "the replaced file is kept for a week");
    prune_at(1_001 + WEEK).await;
    assert_eq!(server.files(), 2, "the image and its release file");
    let release = server.release(1).await;
    assert_eq!(server.bytes(release.file).await, second);
    assert_eq!(server.bytes(release.raw).await, one);
}

#[tokio::test]
async fn names_in_urls_are_plain() {
    let server = Server::new(None);
    let odd = image("../é lamp?#", "1.0.0+b/7", 1);
    server.upload(&odd).await;
    let (_, name) = server.file_for(&odd).await.unwrap();
    assert_eq!(name, ".._____lamp__-1.0.0_b_7.bin".replacen("_____", "___", 1));
    let bearer = format!("Bearer {}", server.token(Role::Viewer).await);
    let request = Request::get("/api/v1/releases/1/file").header("authorization", bearer);
    let answer = server.send(request, Body::empty()).await;
    let path = format!("/files/{}/{name}", Digest::of(&odd));
    assert_eq!((answer.status().as_u16(), answer.headers()["location"].to_str().unwrap()), (307, &*path));
}
