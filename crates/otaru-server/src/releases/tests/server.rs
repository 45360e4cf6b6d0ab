//! A server in a folder of its own, and what tests ask of it.

use super::*;
use crate::address::{DeviceBases, Listening};
use crate::cluster::Holdings;

pub(super) fn key() -> SecretKey {
    SecretKey::from_seed(&[7; 32])
}

pub(super) fn open(folder: &Path, keys: Keys) -> Shared {
    let loopback = ([127, 0, 0, 1], 0).into();
    let config = Config {
        data: folder.to_owned(),
        database: None,
        http: loopback,
        tls: None,
        mqtt: MqttConfig::embedded(loopback),
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
        artifacts: Default::default(),
        download_memory: DEFAULT_MEMORY,
        home_assistant: None,
    };
    Shared::new(App::new(Parts {
        config,
        db: Db::open(&folder.join("otaru.db")).unwrap(),
        artifacts: Artifacts::open(&folder.join("artifacts"), DEFAULT_MEMORY).unwrap(),
        keys,
        holdings: Holdings::everything(),
        clock: Clock::new(|| Time(1_000)),
        public_base: "http://localhost".into(),
        device_bases: DeviceBases::new("http://localhost", Listening { http: None, https: None }),
    }))
}

/// A server in a folder of its own, and tokens for it.
pub(super) struct Server {
    pub(super) folder: tempfile::TempDir,
    pub(super) app: Shared,
}

impl Server {
    pub(super) fn new(signer: Option<SecretKey>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let app = open(folder.path(), Keys::new(signer, Vec::new()));
        Self { folder, app }
    }

    pub(super) async fn token(&self, role: Role) -> String {
        let new = NewToken { name: "ada".into(), role, expires_at: None };
        let write = move |tx: &Connection| tokens::create(tx, new.clone(), "test", Time(0));
        self.app.db.write(write).await.unwrap().1
    }

    pub(super) async fn send(&self, request: http::request::Builder, body: Body) -> Response {
        crate::api::router(self.app.clone()).oneshot(request.body(body).unwrap()).await.unwrap()
    }

    /// Status and JSON of an answer to a token with this role.
    pub(super) async fn ask(
        &self,
        role: Role,
        method: &str,
        path: &str,
        body: impl Into<Body>,
    ) -> (u16, Value) {
        let bearer = format!("Bearer {}", self.token(role).await);
        let request = Request::builder().method(method).uri(format!("/api/v1{path}"));
        let request = request.header("authorization", bearer).header("content-type", "application/json");
        let answer = self.send(request, body.into()).await;
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap())
    }

    pub(super) async fn upload_with(&self, bytes: &[u8], query: &str) -> (u16, Value) {
        self.ask(Role::Operator, "POST", &format!("/releases?{query}"), bytes.to_vec()).await
    }

    pub(super) async fn upload(&self, bytes: &[u8]) -> (u16, Value) {
        self.upload_with(bytes, "").await
    }

    pub(super) async fn release(&self, id: i64) -> Release {
        self.app.db.read(move |tx| rows::get(tx, id)).await.unwrap().unwrap()
    }

    pub(super) async fn build(&self, id: i64, role: Role, replace: bool) -> (u16, Value) {
        self.ask(role, "POST", &format!("/releases/{id}/build?replace={replace}"), "").await
    }

    /// Actions on a release in the audit log.
    pub(super) async fn audited(&self, id: i64) -> Vec<String> {
        let sql = "SELECT action FROM audit WHERE object = ?1 AND actor = 'ada' ORDER BY id";
        let read = move |tx: &Connection| {
            let rows = tx.prepare(sql);
            let rows = rows.query_map([format!("release/{id}")], |row| row.get(0))?;
            rows.collect::<Result<_, _>>()
        };
        self.app.db.read(read).await.unwrap()
    }

    pub(super) async fn file_for(&self, image: &[u8]) -> Option<(Digest, String)> {
        let image = Digest::of(image);
        self.app.db.read(move |tx| file_for(tx, image)).await.unwrap()
    }

    /// A device that runs this image.
    pub(super) async fn device(&self, id: &'static str, image: &[u8]) {
        let image = Digest::of(image);
        let insert = "INSERT INTO devices (id, first_seen, image) VALUES (?1, 0, ?2)";
        let write = move |tx: &Connection| {
            tx.execute(insert, params![id, image.0])?;
            Ok::<_, DbError>(())
        };
        self.app.db.write(write).await.unwrap();
    }

    /// Works until the release's job has ended.
    pub(super) async fn work(&self, id: i64) -> Job {
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

    pub(super) async fn bytes(&self, digest: Option<Digest>) -> Bytes {
        self.app.artifacts.read_whole(digest.unwrap()).await.unwrap()
    }

    /// Files in the store, those that are still being written included.
    pub(super) fn files(&self) -> usize {
        fn count(folder: &Path) -> usize {
            let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
            entries.map(|path| if path.is_dir() { count(&path) } else { 1 }).sum()
        }
        count(&self.folder.path().join("artifacts"))
    }
}

pub(super) fn release_file(image: &[u8], sequence: u64, product: Option<&str>, key: &SecretKey) -> Vec<u8> {
    let options = Options { product: product.map(str::to_owned), ..Options::new(sequence) };
    otaru_release::build::build(image, &options, &mut |_| {}).unwrap().sign(key).unwrap()
}
