//! A TCP listener that hands its sockets to the broker, and pauses when the system has no more of them.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};

use super::connection::serve;
use super::shared::{Shared, Visit, now};
use crate::policy::Policy;

/// Pause when there are no more descriptors.
const PAUSE: Duration = Duration::from_millis(100);
/// Time between two lines of the log about that.
const AGAIN: Duration = Duration::from_secs(60);

/// Silence after which the system asks whether a peer is still there.
const SILENCE: Duration = Duration::from_secs(60);

/// Numbers of errors that mean "no more descriptors", for the process and for the system.
const EMFILE: i32 = 24;
const ENFILE: i32 = 23;

/// Takes connections until the broker stops. These `proxies` may name who is behind them.
pub(super) async fn listen<P: Policy>(shared: Arc<Shared<P>>, listener: TcpListener, proxies: Box<[IpAddr]>) {
    let mut told: Option<Instant> = None;
    while !shared.is_stopping() {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shared.stopped.notified() => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                prepare(&stream);
                match Visit::begin(&shared, peer) {
                    Ok(mut visit) => {
                        visit.proxy = proxies.contains(&peer.ip().to_canonical()).then(|| Box::new(peer));
                        drop(tokio::spawn(serve(visit, stream)));
                    }
                    Err(Some(dismissal)) => drop(tokio::spawn(dismissal.serve(stream))),
                    Err(None) => {}
                }
            }
            Err(error) if is_out_of_descriptors(&error) => {
                if told.is_none_or(|told| now().saturating_duration_since(told) > AGAIN) {
                    told = Some(now());
                    tracing::warn!(
                        "no more file descriptors: MQTT connections wait until some are free; raise the limit of open \
                         files (ulimit -n, LimitNOFILE)"
                    );
                }
                tokio::time::sleep(PAUSE).await;
            }
            // A connection that ended before it was accepted.
            Err(_) => tokio::task::yield_now().await,
        }
    }
}

/// Sets a socket up. One that has just failed will tell so when it is read.
fn prepare(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    // For clients of 3.1.1 that want no keep-alive: the system finds out that they are gone.
    let alive = TcpKeepalive::new().with_time(SILENCE).with_interval(SILENCE / 4);
    let _ = SockRef::from(stream).set_tcp_keepalive(&alive);
}

fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(EMFILE | ENFILE))
}
