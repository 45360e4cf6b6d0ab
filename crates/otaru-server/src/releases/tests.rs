//! Uploads, jobs and what becomes of releases, through the handlers of the API.

use std::path::Path;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path as Id, Query, State};
use axum::http::HeaderMap;
use axum::response::Response;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use otaru_format::digest::Digest;
use otaru_release::build::Options;
use otaru_release::keys::SecretKey;
use otaru_release::verify::{try_patches, verify};
use otaru_rollout::Time;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::samples::image;
use super::*;
use crate::api::caller::{Caller, Role};
use crate::api::problem::Problem;
use crate::api::releases::{self as api, BuildQuery, ListQuery, UploadQuery};
use crate::app::{App, Shared};
use crate::artifacts::{Artifacts, DEFAULT_CACHE};
use crate::clock::Clock;
use crate::config::{Config, MqttConfig};
use crate::db::{Db, DbError, params};
use crate::events::Event;

fn key() -> SecretKey {
    SecretKey::from_seed(&[7; 32])
}

fn open(folder: &Path, keys: Keys) -> Shared {
    let loopback = ([127, 0, 0, 1], 0).into();
    let config = Config {
        data: folder.to_owned(),
        http: loopback,
        mqtt: MqttConfig::Embedded { listen: loopback },
        base: "ESP32/ota".into(),
        public_url: None,
        trusted_proxies: Vec::new(),
        dev: false,
        signing_key: None,
        trusted_keys: Vec::new(),
        uploads: UploadLimits { bytes: 1 << 20, ..UploadLimits::default() },
        metrics: None,
    };
    Shared::new(App {
        config,
        db: Db::open(&folder.join("otaru.db")).unwrap(),
        artifacts: Artifacts::open(&folder.join("artifacts"), DEFAULT_CACHE).unwrap(),
        keys,
        clock: Clock::new(|| Time(1_000)),
        events: crate::events::Events::default(),
        metrics: crate::metrics::Metrics::default(),
        public_base: "http://localhost".into(),
        wake: crate::app::Wake::default(),
    })
}

fn caller(role: Role) -> Caller {
    Caller { token: "t".into(), name: "ada".into(), role }
}

/// A server in a folder of its own.
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

    async fn try_upload(&self, bytes: &[u8], query: UploadQuery) -> Result<Response, Problem> {
        let (headers, body) = (HeaderMap::new(), Body::from(bytes.to_vec()));
        api::upload(State(self.app.clone()), caller(Role::Operator), Ok(Query(query)), headers, body).await
    }

    /// Status and release.
    async fn upload(&self, bytes: &[u8]) -> (u16, Value) {
        let answer = self.try_upload(bytes, UploadQuery::default()).await.unwrap();
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap())
    }

    async fn release(&self, id: i64) -> Release {
        api::get(State(self.app.clone()), caller(Role::Viewer), Ok(Id(id))).await.unwrap().0
    }

    async fn build(&self, id: i64, role: Role, replace: bool) -> Result<Job, Problem> {
        let query = Ok(Query(BuildQuery { replace }));
        Ok(api::build(State(self.app.clone()), caller(role), Ok(Id(id)), query).await?.1.0)
    }

    async fn file_for(&self, image: &[u8]) -> Option<(Digest, String)> {
        let image = Digest::of(image);
        self.app.db.read(move |tx| file_for(tx, image)).await.unwrap()
    }

    /// A device that runs this image.
    async fn device(&self, id: &'static str, image: &[u8]) {
        let image = Digest::of(image);
        let insert = "INSERT INTO devices (id, first_seen, image) VALUES (?1, 0, ?2)";
        let write = move |tx: &crate::db::Connection| {
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
async fn what_is_refused_leaves_nothing() {
    let (server, good) = (Server::new(None), image("lamp", "1.0.0", 1));
    let large = vec![0xE9; (1 << 20) + 1];
    for (bytes, sha256, status, words) in [
        (&good[..good.len() - 50], None, 422, "lamp.bin: it is no good ESP image: the image ends early"),
        (&b"\x7fELF"[..], None, 422, "save-image"),
        (&large, None, 413, "larger"),
        (&good, Some(Digest::ZERO.to_string()), 422, "send it again"),
        (&good, Some("1234".into()), 400, "64 hexadecimal digits"),
    ] {
        let query = UploadQuery { filename: Some("lamp.bin".into()), sha256, notes: None };
        let problem = server.try_upload(bytes, query).await.unwrap_err();
        assert_eq!(problem.status, status, "{problem:?}");
        assert!(problem.detail.contains(words), "{problem:?}");
        assert_eq!(server.files(), 0, "{problem:?}");
    }
    let mut zipped = HeaderMap::new();
    zipped.insert("content-encoding", "gzip".parse().unwrap());
    let query = Ok(Query(UploadQuery::default()));
    let app = State(server.app.clone());
    let answer = api::upload(app, caller(Role::Operator), query, zipped, Body::empty()).await;
    assert_eq!(answer.unwrap_err().status, 415);
    let app = State(server.app.clone());
    let query = Ok(Query(UploadQuery::default()));
    let answer = api::upload(app, caller(Role::Viewer), query, HeaderMap::new(), Body::from(good)).await;
    assert_eq!((answer.unwrap_err().status, server.files()), (403, 0));
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
    let problem = server.try_upload(&good, UploadQuery::default()).await.unwrap_err();
    assert_eq!((problem.status, problem.kind.as_str()), (507, "urn:otaru:problem:disk-full"));
    assert_eq!(server.files(), 0);
    let list =
        api::list(State(server.app.clone()), caller(Role::Viewer), Ok(Query(ListQuery::default()))).await;
    assert_eq!(list.unwrap().total, 0);
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
    ] {
        let problem = server.try_upload(&file, UploadQuery::default()).await.unwrap_err();
        assert_eq!(problem.status, 409);
        assert!(problem.detail.contains(words), "{problem:?}");
    }
    let newer = release_file(&one, 6, None, &key);
    assert_eq!(server.upload(&newer).await.0, 200);
    assert_eq!(server.release(1).await.file, Some(Digest::of(&newer)));
}

#[tokio::test]
async fn with_a_key_only_trusted_signatures_are_taken() {
    let (server, one) = (Server::new(Some(key())), image("lamp", "1.0.0", 1));
    let foreign = release_file(&one, 1, None, &SecretKey::from_seed(&[9; 32]));
    let problem = server.try_upload(&foreign, UploadQuery::default()).await.unwrap_err();
    assert_eq!((problem.status, server.files()), (422, 0));
    assert!(problem.detail.contains("none of the keys"), "{problem:?}");
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
    assert_eq!((release.sequence, server.release(1).await.sequence), (Some(2), Some(1)));
    assert_eq!((release.devices, server.release(1).await.devices), (0, 2));
    let file = server.bytes(release.file).await;
    let verified = verify(&file, &[key().public()]).unwrap();
    assert_eq!(verified.file.manifest.image, Digest::of(&new));
    assert_eq!(try_patches(&verified.file, std::slice::from_ref(&old)).unwrap(), 0);
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
    assert_eq!((release.deltas.len(), release.sequence), (0, Some(2)));
    server.app.db.write(|tx| jobs::ask_for_patches(tx, Time(2_000))).await.unwrap();
    assert_eq!(server.release(2).await.job, release.job);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_was_killed_is_done_after_a_restart() {
    let server = Server::new(Some(key()));
    server.upload(&image("lamp", "1.0.0", 1)).await;
    // What a process that is killed leaves: the job has begun, the release has its number, and nothing else is there.
    server.app.db.write(|tx| Job::take(tx, Time(0))).await.unwrap().unwrap();
    let Server { folder, app } = server;
    let job = app.db.read(|tx| Job::latest(tx, 1)).await.unwrap().unwrap();
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
    assert_eq!(server.build(1, Role::Operator, false).await.unwrap_err().status, 409);
    assert_eq!(server.build(1, Role::Operator, true).await.unwrap_err().status, 403);
    server.build(1, Role::Admin, true).await.unwrap();
    assert_eq!(server.work(1).await.state, JobState::Done);
    let release = server.release(1).await;
    assert!(release.built && release.sequence == Some(8), "{release:?}");
    // And a server's own file makes way for one that was signed elsewhere.
    let newer = release_file(&one, 9, None, &key());
    assert_eq!(server.upload(&newer).await.0, 200);
    assert_eq!(server.release(1).await.file, Some(Digest::of(&newer)));
}

#[tokio::test]
async fn nothing_is_built_without_a_key_or_twice() {
    let server = Server::new(None);
    server.upload(&image("lamp", "1.0.0", 1)).await;
    assert_eq!(server.build(1, Role::Operator, false).await.unwrap_err().status, 409);
    assert_eq!(server.release(1).await.job, None);
    let server = Server::new(Some(key()));
    server.upload(&image("lamp", "1.0.0", 1)).await;
    let asked = server.release(1).await.job.unwrap();
    assert_eq!(server.build(1, Role::Operator, false).await.unwrap(), asked);
    let replacing = server.build(1, Role::Admin, true).await.unwrap();
    assert_eq!((replacing.id, replacing.kind), (asked.id, JobKind::Replace));
    assert_eq!(server.build(2, Role::Operator, false).await.unwrap_err().status, 404);
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
    let app = || State(server.app.clone());
    let weak = api::yank(app(), caller(Role::Viewer), Ok(Id(1))).await;
    assert_eq!(weak.unwrap_err().status, 403);
    let yanked = api::yank(app(), caller(Role::Operator), Ok(Id(1))).await.unwrap().0;
    assert_eq!(yanked.yanked_at, Some(1_000));
    assert_eq!(api::yank(app(), caller(Role::Operator), Ok(Id(1))).await.unwrap().0, yanked);
    assert_eq!(server.file_for(&one).await, None);
    server.upload(&one).await;
    assert_eq!(server.file_for(&one).await, None, "the same again does not give it back");
    // Its file is still there for whoever has the link.
    assert!(api::file(app(), caller(Role::Viewer), Ok(Id(1))).await.is_ok());
    let given = api::unyank(app(), caller(Role::Operator), Ok(Id(1))).await.unwrap().0;
    assert_eq!(given.yanked_at, None);
    assert!(server.file_for(&one).await.is_some());
    assert_eq!(api::yank(app(), caller(Role::Operator), Ok(Id(2))).await.unwrap_err().status, 404);
}

#[tokio::test]
async fn lists_are_filtered_and_come_in_pages() {
    let server = Server::new(None);
    for n in 1..=5 {
        server.upload(&image("lamp", &format!("1.{n}.0"), n)).await;
    }
    server.upload(&image("clock", "1.1.0", 9)).await;
    let list = async |query: ListQuery| {
        let page = api::list(State(server.app.clone()), caller(Role::Viewer), Ok(Query(query))).await?.0;
        let ids: Vec<i64> = page.items.iter().map(|release| release.id).collect();
        Ok::<_, Problem>((ids, page.next, page.total))
    };
    assert_eq!(list(ListQuery::default()).await.unwrap(), (vec![6, 5, 4, 3, 2, 1], None, 6));
    let lamps = |limit, cursor| ListQuery {
        product: Some("lamp".into()),
        limit: Some(limit),
        cursor,
        ..ListQuery::default()
    };
    let (ids, next, total) = list(lamps(2, None)).await.unwrap();
    assert_eq!((ids, total), (vec![5, 4], 5));
    let (ids, next, _) = list(lamps(2, next)).await.unwrap();
    assert_eq!(ids, [3, 2]);
    assert_eq!(list(lamps(2, next)).await.unwrap(), (vec![1], None, 5));
    let version =
        ListQuery { version: Some("1.1.0".into()), chip: Some("esp32c3".into()), ..ListQuery::default() };
    assert_eq!(list(version).await.unwrap().0, [6, 1]);
    let _yanked = api::yank(State(server.app.clone()), caller(Role::Operator), Ok(Id(3))).await.unwrap();
    assert_eq!(list(ListQuery { yanked: Some(true), ..ListQuery::default() }).await.unwrap().0, [3]);
    assert_eq!(list(ListQuery { yanked: Some(false), ..ListQuery::default() }).await.unwrap().2, 5);
    assert_eq!(list(lamps(0, None)).await.unwrap_err().status, 422);
    assert_eq!(list(lamps(1001, None)).await.unwrap_err().status, 422);
    assert_eq!(list(lamps(1, Some("x'; --".into()))).await.unwrap_err().status, 422);
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
    let answer = api::file(State(server.app.clone()), caller(Role::Viewer), Ok(Id(1))).await.unwrap();
    let answer = axum::response::IntoResponse::into_response(answer);
    let path = format!("/files/{}/{name}", Digest::of(&odd));
    assert_eq!(answer.headers()["location"], *path);
}
