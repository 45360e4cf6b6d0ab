//! A TCP listener that hands its sockets to the broker, and pauses when the system has no more of them.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;

use super::connection::serve;
use super::shared::{Shared, Visit, now};
use super::wire::Wire;
use crate::channel::ChannelHandle;
use crate::policy::Policy;

/// Pause when the system gives no connection, as when there are no more descriptors.
const PAUSE: Duration = Duration::from_millis(100);
/// Time between two lines of the log about that.
const AGAIN: Duration = Duration::from_secs(60);

/// Silence after which the system asks whether a peer is still there.
const SILENCE: Duration = Duration::from_secs(60);

/// Numbers of errors that mean "no more descriptors", for the process and for the system.
const EMFILE: i32 = 24;
const ENFILE: i32 = 23;

/// Takes connections until the broker stops. These `proxies` may name who is behind them; `wrap` puts something around each stream.
pub(super) async fn listen<P, S, W>(
    shared: Arc<Shared<P>>,
    listener: TcpListener,
    proxies: Box<[IpAddr]>,
    wrap: W,
) where
    P: Policy,
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    W: Fn(TcpStream, SocketAddr) -> (S, ChannelHandle) + Send + 'static,
{
    let mut told: Option<Instant> = None;
    let mut last: Option<Instant> = None;
    let is_alone = Handle::current().metrics().num_workers() == 1;
    if INHERITED {
        prepare(&SockRef::from(&listener));
    }
    loop {
        // Before the look whether it has stopped: a stop in between would not be heard of.
        let stopped = shared.stopped.notified();
        if shared.is_stopping() {
            return;
        }
        let accepted = tokio::select! {
            accepted = next(&listener, last) => accepted,
            () = stopped => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                last = is_alone.then(Instant::now);
                if !INHERITED {
                    prepare(&SockRef::from(&stream));
                }
                let is_proxy = proxies.contains(&peer.ip().to_canonical());
                let visit = Visit::begin(&shared, peer);
                let (stream, channel) = wrap(stream, peer);
                match visit {
                    Ok(mut visit) => {
                        visit.is_proxy = is_proxy;
                        visit.channel = channel;
                        tokio::spawn(serve(visit, stream));
                    }
                    Err(Some(dismissal)) => drop(tokio::spawn(dismissal.serve(Wire::new(stream), is_proxy))),
                    Err(None) => {}
                }
            }
            Err(error) if is_over_at_once(&error) => tokio::task::yield_now().await,
            Err(error) => {
                if told.is_none_or(|told| now().saturating_duration_since(told) > AGAIN) {
                    told = Some(now());
                    tell(&error);
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Time after a connection in which the next is looked for without sleeping, about as long as it takes to wake a core that sleeps: where
/// thousands connect at once, each finds one that is awake. Twice and four times as long were measured to gain nothing more. Only where one
/// thread does everything: of several, another one sleeps where connections are told of.
const AWAKE: Duration = Duration::from_micros(100);

/// Takes the next connection; the `last` is none where nobody stays awake for it.
async fn next(listener: &TcpListener, last: Option<Instant>) -> io::Result<(TcpStream, SocketAddr)> {
    while let Some(last) = last
        && last.elapsed() < AWAKE
    {
        if let Poll::Ready(accepted) = poll_fn(|context| Poll::Ready(listener.poll_accept(context))).await {
            return accepted;
        }
        // For other programs on this core, such as clients that are about to connect.
        std::thread::yield_now();
        tokio::task::yield_now().await;
    }
    listener.accept().await
}

/// Tells the log why no connections are taken.
fn tell(error: &io::Error) {
    match is_out_of_descriptors(error) {
        true => tracing::warn!(
            "no more file descriptors: MQTT connections wait until some are free; raise the limit of open \
             files (ulimit -n, LimitNOFILE)"
        ),
        false => tracing::warn!(%error, "MQTT connections wait: the system gives none at present"),
    }
}

/// Whether sockets begin with the options of their listener, as under Linux (tcp(7), socket(7)): four system calls fewer for each.
const INHERITED: bool = cfg!(target_os = "linux");

/// Sets a socket up. One that has just failed will tell so when it is read.
fn prepare(socket: &SockRef<'_>) {
    let _ = socket.set_tcp_nodelay(true);
    // For clients of 3.1.1 that want no keep-alive: the system finds out that they are gone.
    let alive = TcpKeepalive::new().with_time(SILENCE).with_interval(SILENCE / 4);
    let _ = socket.set_tcp_keepalive(&alive);
}

/// Tells whether the next connection can be taken at once: one was over before it was accepted, or a signal came.
fn is_over_at_once(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted)
}

fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(EMFILE | ENFILE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn sockets_begin_with_the_options_of_their_listener() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        prepare(&SockRef::from(&listener));
        let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let socket = SockRef::from(&stream);
        let is_set = socket.tcp_nodelay().unwrap()
            && socket.keepalive().unwrap()
            && (socket.tcp_keepalive_time().unwrap(), socket.tcp_keepalive_interval().unwrap())
                == (SILENCE, SILENCE / 4);
        assert!(is_set || !INHERITED);
    }

    #[test]
    fn only_what_is_over_at_once_is_followed_without_a_pause() {
        use io::ErrorKind::{
            ConnectionAborted, Interrupted, InvalidInput, Other, OutOfMemory, PermissionDenied,
        };
        for kind in [ConnectionAborted, Interrupted] {
            assert!(is_over_at_once(&kind.into()), "{kind}");
        }
        for kind in [InvalidInput, Other, OutOfMemory, PermissionDenied] {
            assert!(!is_over_at_once(&kind.into()), "{kind}");
        }
        for number in [EMFILE, ENFILE] {
            assert!(!is_over_at_once(&io::Error::from_raw_os_error(number)), "{number}");
        }
    }
}
