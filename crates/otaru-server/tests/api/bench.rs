//! A server in this process, tokens for each role, and requests to it.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use axum::response::Response;
use http_body_util::BodyExt as _;
use otaru_server::clock::Clock;
use otaru_server::config::{Config, MqttConfig};
use otaru_server::dashboard;
use otaru_server::db::PostgresSettings;
use otaru_server::http::Limits;
use otaru_server::reconcile::sweep;
use otaru_server::releases::UploadLimits;
use otaru_server::server::Server;
use otaru_server::{api, http::Peer};
use otaru_testing::postgres::Database;
use otaru_tls::Trust;
use serde_json::{Value, json};
use tempfile::TempDir;
use tower::ServiceExt as _;

use crate::described;

/// A running server.
pub(crate) struct Bench {
    pub(crate) server: Server,
    pub(crate) admin: String,
    router: Router,
    _dir: TempDir,
    _database: Database,
}

/// A device: its id, version, state and tags.
pub(crate) type Facts = (String, &'static str, &'static str, Vec<(&'static str, &'static str)>);

/// Answer of the server.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    /// The body as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Fails unless the status is this.
    #[track_caller]
    pub(crate) fn is(self, status: u16) -> Self {
        assert_eq!(self.status.as_u16(), status, "{self:?}");
        self
    }

    /// Fails unless it is a problem of this kind.
    #[track_caller]
    pub(crate) fn problem(self, status: u16, kind: &str) -> Self {
        let answer = self.is(status);
        assert_eq!(answer.headers[header::CONTENT_TYPE], "application/problem+json", "{answer:?}");
        let problem = answer.json();
        assert_eq!(problem["type"], format!("urn:otaru:problem:{kind}"), "{problem}");
        assert_eq!(problem["status"], status);
        assert!(problem["detail"].as_str().unwrap().len() > 8, "it says what is wrong: {problem}");
        answer
    }
}

/// Returns what a server has that is set up no further: with this data folder, and free ports.
pub(crate) fn config(data: PathBuf) -> Config {
    let free = "127.0.0.1:0".parse().unwrap();
    Config {
        data,
        database: None,
        http: free,
        tls: None,
        mqtt: MqttConfig::embedded(free),
        base: "ESP32/ota".into(),
        public_url: None,
        trusted_proxies: Vec::new(),
        dev: false,
        guests: false,
        signing_key: None,
        trusted_keys: Vec::new(),
        device_limits: otaru_server::devices::bounds::Bounds::default(),
        upload_limits: UploadLimits::default(),
        http_limits: Limits::default(),
        metrics: None,
        artifacts: Default::default(),
        download_memory: otaru_server::artifacts::DEFAULT_MEMORY,
        home_assistant: None,
    }
}

/// Returns where a database is.
pub(crate) fn postgres(url: &str) -> Box<PostgresSettings> {
    Box::new(PostgresSettings::parse(url, Trust::default()).unwrap())
}

impl Bench {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        Self::start_at(change, Clock::system()).await
    }

    pub(crate) async fn start_at(change: impl FnOnce(&mut Config), clock: Clock) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let database = Database::at(&dir.path().join("data"));
        let mut config = config(dir.path().join("data"));
        config.database = database.url().map(postgres);
        change(&mut config);
        let server = Server::start_at(config, clock).await.unwrap();
        // Rows that a test writes are as they were heard since.
        assert!(sweep::over(server.app()).await);
        let admin = server.first_token().unwrap().to_owned();
        let app = server.app().clone();
        let router = api::router(app.clone()).merge(dashboard::router(app));
        Self { server, admin, router, _dir: dir, _database: database }
    }

    /// Sends a request as it is; the body of what is answered is not read yet.
    pub(crate) async fn respond(&self, mut request: Request<Body>) -> Response {
        // What the listener notes.
        let here: SocketAddr = ([127, 0, 0, 1], 1).into();
        request.extensions_mut().insert(ConnectInfo(here));
        request.extensions_mut().insert(Peer(here.ip()));
        self.router.clone().oneshot(request).await.unwrap()
    }

    /// Sends a request as it is. What the API answers must be what its description says.
    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let response = self.respond(request).await;
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let answer = Answer { status: parts.status, headers: parts.headers, text };
        described::check(&method, &path, &answer);
        answer
    }

    /// Asks with a token, if one is given.
    pub(crate) async fn ask(
        &self,
        token: Option<&str>,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(format!("/api/v1{path}"));
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = match body {
            Some(body) => {
                request.header(header::CONTENT_TYPE, "application/json").body(Body::from(body.to_string()))
            }
            None => request.body(Body::empty()),
        };
        self.send(request.unwrap()).await
    }

    /// Reads as the admin.
    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.ask(Some(&self.admin), Method::GET, path, None).await
    }

    /// Posts as the admin.
    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.ask(Some(&self.admin), Method::POST, path, Some(body)).await
    }

    /// A token with this role.
    pub(crate) async fn token(&self, role: &str) -> String {
        let made = self.post("/tokens", json!({"name": role, "role": role})).await.is(201).json();
        made["text"].as_str().unwrap().to_owned()
    }

    /// Registers devices with a few facts, as their reports would.
    pub(crate) async fn devices(&self, devices: Vec<Facts>) {
        self.server
            .app()
            .db
            .write(move |tx| {
                for (id, version, state, tags) in &devices {
                    tx.execute(
                        "INSERT INTO devices (id, first_seen, chip, product, version, image, state, reachable)
                         VALUES (?1, 1, 'esp32c3', 'lamp', ?2, zeroblob(32), ?3, length(?1) % 2 = 1)",
                        [id.as_str(), version, state],
                    )?;
                    for (name, value) in tags {
                        tx.execute(
                            "INSERT INTO device_tags (device, name, value) VALUES (?, ?, ?)",
                            [id.as_str(), name, value],
                        )?;
                    }
                }
                Ok::<_, otaru_server::db::DbError>(())
            })
            .await
            .unwrap();
    }
}

/// Log of this process from now on, in all of its threads.
#[derive(Clone, Default)]
pub(crate) struct Logs(Arc<Mutex<Vec<u8>>>);

impl Logs {
    /// Everything, down to traces.
    pub(crate) fn all() -> Self {
        let logs = Self::default();
        let writer = logs.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::set_global_default(subscriber).unwrap();
        logs
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

impl Write for Logs {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Longest that anything may take here.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// Asks until something is so. Other servers may be waited for, until their leases end.
pub(crate) async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + 3 * LIMIT;
    while !is_so().await {
        assert!(tokio::time::Instant::now() < deadline, "waited for {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
