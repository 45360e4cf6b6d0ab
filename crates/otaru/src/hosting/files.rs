//! A static HTTP server inside this process: ranges, validators, one line a request.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::Response;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tower_http::services::ServeDir;

use super::served::{self, Kinds, ServedFolder};
use super::{FileHost, if_range, store};
use crate::percent::escape_name;
use otaru_server::http::{Rules, bind, serve};
use otaru_server::mqtt::reachable;

/// A request that was answered, for the log.
#[derive(Debug, Clone)]
pub(crate) struct Answered {
    pub(crate) peer: SocketAddr,
    pub(crate) method: Method,
    /// As it came: percent-encoded, and not to be trusted.
    pub(crate) path: String,
    pub(crate) range: Option<String>,
    pub(crate) status: StatusCode,
    /// Bytes of the body, where known.
    pub(crate) length: Option<u64>,
}

/// Hears of every request.
pub(crate) type OnAnswer = Arc<dyn Fn(Answered) + Send + Sync>;

/// A running file server; it stops when this is dropped.
pub(crate) struct HttpFiles {
    address: SocketAddr,
    /// `http://host:port`, as devices should write it.
    base: String,
    dir: PathBuf,
    task: JoinHandle<()>,
    stop: CancellationToken,
}

impl HttpFiles {
    /// Serves these kinds of files in `dir` at `listen`, with the limits of the fleet server.
    ///
    /// # Errors
    /// When the address is taken or not ours.
    pub(crate) async fn start(
        listen: SocketAddr,
        dir: &Path,
        kinds: Kinds,
        on_answer: OnAnswer,
    ) -> io::Result<Self> {
        let shown = Arc::new(ServedFolder::new(dir, kinds)?);
        let listener = bind(listen).await?;
        let address = listener.local_addr()?;
        let files =
            ServeDir::new(dir).append_index_html_on_directories(false).ignore_multi_range_requests(true);
        let router = Router::new()
            .fallback_service(files)
            .layer(from_fn(if_range::honour))
            .layer(from_fn_with_state(shown, served::only))
            .layer(from_fn_with_state(on_answer, note));
        let stop = CancellationToken::new();
        let task = tokio::spawn(serve(listener, router, Rules::default(), stop.clone()));
        Ok(Self { address, base: format!("http://{}", reachable(address)), dir: dir.to_owned(), task, stop })
    }

    /// The same, with another host in its URLs.
    pub(crate) fn advertised_as(mut self, authority: &str) -> Self {
        self.base = format!("http://{authority}");
        self
    }

    /// The address it listens at.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL of a file of this name.
    pub(crate) fn url_of(&self, name: &str) -> String {
        format!("{}/{}", self.base, escape_name(name))
    }

    /// Resolves when the server ends on its own, with the reason.
    pub(crate) async fn failed(&mut self) -> String {
        match (&mut self.task).await {
            Ok(()) => "the file server stopped".into(),
            Err(error) => error.to_string(),
        }
    }
}

impl FileHost for HttpFiles {
    fn put(&self, name: &str, bytes: &[u8]) -> io::Result<String> {
        store(&self.dir, name, bytes)?;
        Ok(self.url_of(name))
    }
}

impl Drop for HttpFiles {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn note(
    State(on_answer): State<OnAnswer>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Response {
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let range = text(request.headers(), header::RANGE);
    let response = next.run(request).await;
    let length = text(response.headers(), header::CONTENT_LENGTH).and_then(|length| length.parse().ok());
    on_answer(Answered { peer, method, path, range, status: response.status(), length });
    response
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}
