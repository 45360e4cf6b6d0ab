//! The HTTP listener: bounded in time, connections and bytes, so that slow or hostile senders cost little.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{ConnectInfo, MatchedPath, Request};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;
use tracing::Instrument as _;

use crate::api::caller::Peer;
use crate::app::Shared;
use crate::{drain, metrics};

/// How long a request's head may take, and how long a connection may be idle.
const HEAD: Duration = Duration::from_secs(15);
/// Bytes of the longest head.
const LONGEST_HEAD: usize = 32 * 1024;
/// How long answers that are under way have after the end was asked for.
const GRACE: Duration = Duration::from_secs(10);
/// The pause after the system had no more file descriptors.
const BREATH: Duration = Duration::from_millis(100);

/// Binds an address.
///
/// # Errors
/// When it is taken or not ours.
pub async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// Serves `router` until `stop`, then finishes what is under way.
pub async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) {
    // More wait in the system's queue.
    let connections = Arc::new(Semaphore::new(crate::files::room().http));
    let graceful = GracefulShutdown::new();
    while let Some((stream, peer, permit)) = accept(&listener, &connections, &stop).await {
        let service =
            router.clone().map_request(move |mut request: hyper::Request<hyper::body::Incoming>| {
                request.extensions_mut().insert(ConnectInfo(peer));
                drain::request(request)
            });
        let mut builder = hyper::server::conn::http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(LONGEST_HEAD.max(64 * 1024));
        let connection = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            // What a peer does to its connection is its own affair.
            if let Err(error) = connection.await {
                tracing::debug!(%peer, %error, "a connection broke");
            }
            drop(permit);
        });
    }
    drop(listener);
    if tokio::time::timeout(GRACE, graceful.shutdown()).await.is_err() {
        tracing::warn!("some answers were not finished in time");
    }
}

async fn accept(
    listener: &TcpListener,
    connections: &Arc<Semaphore>,
    stop: &CancellationToken,
) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let accepted = async {
        let permit = Arc::clone(connections).acquire_owned().await.ok()?;
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => {
                    // Answers are written whole; waiting for more to send would only delay them.
                    let _ = stream.set_nodelay(true);
                    return Some((stream, peer, permit));
                }
                Err(error) => {
                    tracing::warn!(%error, "no connection can be taken just now");
                    tokio::time::sleep(BREATH).await;
                }
            }
        }
    };
    tokio::select! {
        () = stop.cancelled() => None,
        accepted = accepted => accepted,
    }
}

/// What every request gets: the sender's address, an id, a line in the log, and a place in the metrics.
pub fn with_notes(router: Router, app: Shared) -> Router {
    router.layer(from_fn_with_state(app, note))
}

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

async fn note(
    axum::extract::State(app): axum::extract::State<Shared>,
    mut request: Request,
    next: Next,
) -> Result<Response, Infallible> {
    let began = Instant::now();
    let connection = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip());
    let peer = sender(connection, request.headers(), &app.config.trusted_proxies);
    request.extensions_mut().insert(Peer(peer));
    let id = format!("{:016x}", rand::random::<u64>());
    let method = known(request.method()).to_owned();
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let route = route.unwrap_or_else(|| "none".to_owned());
    let span = tracing::info_span!("request", %id);
    let mut response = next.run(request).instrument(span.clone()).await;
    let (status, took) = (response.status().as_u16(), began.elapsed());
    span.in_scope(|| tracing::debug!(%peer, %method, %route, status, ?took, "answered"));
    app.metrics.answered(metrics::Request { method, route, status }, took);
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    Ok(response)
}

/// A method's name, of the few that anything here answers to: anybody can make up others, and each would be counted, and kept, by
/// itself.
fn known(method: &Method) -> &str {
    match *method {
        Method::GET
        | Method::HEAD
        | Method::POST
        | Method::PATCH
        | Method::PUT
        | Method::DELETE
        | Method::OPTIONS => method.as_str(),
        _ => "other",
    }
}

/// Who sent a request: the connection's other end or, when that is a proxy that is trusted, whom it names. Of several it is the
/// last that no trusted proxy is; what stands before it anybody may have written.
fn sender(connection: Option<IpAddr>, headers: &HeaderMap, trusted: &[IpAddr]) -> IpAddr {
    let peer = connection.map_or(IpAddr::from([0, 0, 0, 0]), |ip| ip.to_canonical());
    if !trusted.contains(&peer) {
        return peer;
    }
    let lines = headers.get_all("x-forwarded-for").iter().filter_map(|line| line.to_str().ok());
    let named: Vec<&str> = lines.flat_map(|line| line.split(',')).collect();
    let named = named.iter().rev().map_while(|text| text.trim().parse::<IpAddr>().ok());
    named.map(|ip| ip.to_canonical()).find(|ip| !trusted.contains(ip)).unwrap_or(peer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_trusted_proxies_name_others() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let mut headers = HeaderMap::new();
        headers.append("x-forwarded-for", HeaderValue::from_static("1.1.1.1, 2.2.2.2"));
        headers.append("x-forwarded-for", HeaderValue::from_static("3.3.3.3, 10.0.0.2"));
        let trusted = [ip("10.0.0.1"), ip("10.0.0.2")];
        let from = |peer: &str| sender(Some(ip(peer)), &headers, &trusted);
        assert_eq!(from("9.9.9.9"), ip("9.9.9.9"), "anybody could write that");
        assert_eq!(from("10.0.0.1"), ip("3.3.3.3"));
        assert_eq!(from("::ffff:10.0.0.1"), ip("3.3.3.3"), "the same address in IPv6");
        headers.append("x-forwarded-for", HeaderValue::from_static("nonsense"));
        assert_eq!(sender(Some(ip("10.0.0.1")), &headers, &trusted), ip("10.0.0.1"));
    }
}
