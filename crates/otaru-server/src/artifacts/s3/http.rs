//! HTTP to the service of a bucket: by whom the program trusts, never for long without a byte, and bounded where no file is asked for.

use std::error::Error as StdError;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use axum::http::{Method, Request};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector as TcpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse,
    HttpResponseBody, HttpService,
};
use otaru_tls::{Reason, Trust, TrustError};
use rustls::{ClientConfig, RootCertStore};
use tokio::time::{Instant, Sleep, sleep, sleep_until};

/// Longest time to connect.
const CONNECT: Duration = Duration::from_secs(5);
/// Time for which a connection without a request is kept.
const IDLE: Duration = Duration::from_secs(20);
/// Bytes of the longest answer that is no file; a page of a list has 1,000 names.
const LONGEST: usize = 4 << 20;

/// Reason that a request failed, in words of our own.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Words(String);

/// Client of the service of a bucket.
#[derive(Debug, Clone)]
pub(super) struct Service {
    client: Client<HttpsConnector<TcpConnector>, Sent>,
    stall: Duration,
}

impl Service {
    /// Speaks to services that are trusted, in clear only where `plain` says so. A connection ends that does not move for as long as `stall`.
    pub(super) fn new(trust: &Trust, plain: bool, stall: Duration) -> Result<Self, TrustError> {
        // Where it goes in clear, nobody's certificate counts, and a machine needs no CAs.
        let config = if plain { nobody()? } else { trust.client_config()?.as_ref().clone() };
        let mut tcp = TcpConnector::new();
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(CONNECT));
        tcp.set_nodelay(true);
        let builder = HttpsConnectorBuilder::new().with_tls_config(config);
        let builder = if plain { builder.https_or_http() } else { builder.https_only() };
        let mut client = Client::builder(TokioExecutor::new());
        client.pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE);
        Ok(Self { client: client.build(builder.enable_http1().wrap_connector(tcp)), stall })
    }
}

/// Trusts nobody.
fn nobody() -> Result<ClientConfig, TrustError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(config.with_root_certificates(RootCertStore::empty()).with_no_client_auth())
}

impl HttpConnector for Service {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

#[async_trait]
impl HttpService for Service {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let is_file = request.method() == Method::GET && request.uri().query().is_none();
        let moved = Moved::default();
        let (parts, body) = request.into_parts();
        let sent = Request::from_parts(parts, Sent { body, moved: moved.clone() });
        let response = self.unless_stalled(&moved, self.client.request(sent)).await?;
        let (parts, body) = response.into_parts();
        let body = match is_file && parts.status.is_success() {
            true => HttpResponseBody::new(self.received(body)),
            false => HttpResponseBody::new(Limited::new(self.received(body), LONGEST).map_err(too_long)),
        };
        Ok(HttpResponse::from_parts(parts, body))
    }
}

impl Service {
    /// Waits for an answer, for as long as the request moves.
    async fn unless_stalled<T>(
        &self,
        moved: &Moved,
        answer: impl Future<Output = Result<T, hyper_util::client::legacy::Error>>,
    ) -> Result<T, HttpError> {
        let mut answer = std::pin::pin!(answer);
        loop {
            let last = moved.last();
            tokio::select! {
                answer = &mut answer => return answer.map_err(|error| failed(&error, error.is_connect())),
                () = sleep_until(last + self.stall) => if moved.last() == last {
                    return Err(stalled(self.stall));
                }
            }
        }
    }

    /// Returns a body that ends with an error when nothing of it comes for too long.
    fn received(&self, body: Incoming) -> Received {
        Received { body, stall: self.stall, end: Box::pin(sleep(self.stall)) }
    }
}

/// Moment at which a request moved last.
#[derive(Debug, Clone)]
struct Moved(Arc<Mutex<Instant>>);

impl Default for Moved {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }
}

impl Moved {
    fn note(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn last(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Body of a request, which notes when a piece of it is taken.
struct Sent {
    body: HttpRequestBody,
    moved: Moved,
}

impl Body for Sent {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        self.moved.note();
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Body of an answer, which fails when nothing comes for too long.
struct Received {
    body: Incoming,
    stall: Duration,
    end: Pin<Box<Sleep>>,
}

impl Body for Received {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        match Pin::new(&mut self.body).poll_frame(context) {
            Poll::Ready(frame) => {
                let next = Instant::now() + self.stall;
                self.end.as_mut().reset(next);
                Poll::Ready(frame.map(|frame| frame.map_err(|error| failed(&error, false))))
            }
            Poll::Pending => {
                std::task::ready!(self.end.as_mut().poll(context));
                Poll::Ready(Some(Err(stalled(self.stall))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// An error, as the cause of another.
type Cause<'a> = &'a (dyn StdError + 'static);

fn cause<'a>(error: &Cause<'a>) -> Option<Cause<'a>> {
    (*error).source()
}

fn words(kind: HttpErrorKind, text: String) -> HttpError {
    HttpError::new(kind, Words(text))
}

fn stalled(stall: Duration) -> HttpError {
    words(HttpErrorKind::Timeout, format!("nothing moved for {} s", stall.as_secs_f32()))
}

/// Finds the reason among the causes of an error. That it broke off is no reason to give up: whatever is asked for may be asked again.
fn failed(error: Cause<'_>, connecting: bool) -> HttpError {
    let causes = || std::iter::successors(Some(error), cause);
    let io = |error: &io::Error| {
        let inner = || error.get_ref()?.downcast_ref().and_then(|error| Reason::of_io(error, true));
        Reason::of_io(error, true).or_else(inner)
    };
    if let Some(reason) = causes().find_map(|cause| io(cause.downcast_ref()?)) {
        // Another attempt would end as this one.
        return words(HttpErrorKind::Unknown, tls(reason));
    }
    let last = causes().last().map(ToString::to_string).unwrap_or_default();
    match connecting {
        true => words(HttpErrorKind::Connect, format!("it cannot be reached: {last}")),
        false => words(HttpErrorKind::Interrupted, format!("the connection broke off: {last}")),
    }
}

/// Words for a session that there is not, with the option that is about this one.
fn tls(reason: Reason) -> String {
    reason.to_string().replace("--ca FILE", "--s3-ca FILE")
}

fn too_long(error: Box<dyn StdError + Send + Sync>) -> HttpError {
    match error.downcast::<HttpError>() {
        Ok(error) => *error,
        Err(_) => words(HttpErrorKind::Decode, format!("an answer is longer than {LONGEST} bytes")),
    }
}
