//! The HTTP listener: bounded in time, connections and bytes, so that slow or hostile peers cost little and keep nobody out.

mod counted;
mod drain;
mod held;
mod limits;
mod queue;
mod room;
mod sender;
mod stall;
mod stranger;
mod transport;
mod waiting;
mod wrong_port;

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::ConnectInfo;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use hyper::body::{Body as _, Incoming};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use prometheus_client::metrics::counter::Counter;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use self::room::{Admission, ConnectionSlot, Room};
use self::stall::Stalling;
use crate::problem::Problem;
use crate::tls::{Accepted, PlainOnly, Told};

pub use self::limits::Limits;
pub use self::sender::Peer;
pub use self::stranger::Stranger;
pub use self::transport::{OverTls, Transport};

/// Bytes of the longest head.
const LONGEST_HEAD: usize = 64 * 1024;
/// Bytes of an answer that the system takes before its reader does; Linux takes twice as many. Left to itself it takes 2.5 MB on a fast
/// network, which costs memory and, for as long as they are copied, the time of everybody else.
const SEND_BUFFER: u32 = 128 * 1024;
/// Of these, bytes that are not yet on their way: as soon as a reader took half as many, there is room for more. A slow one is seen to read,
/// and one who does not read costs little; see tcp(7), `TCP_NOTSENT_LOWAT`.
#[cfg(target_os = "linux")]
const UNSENT: u32 = 16 * 1024;
/// Connections that may wait to be taken: a client whose connection finds no place there tries again after a second, then two, then four.
const BACKLOG: u32 = 4_096;
/// Bytes of the longest answer to somebody in the reserve.
const LONG_ANSWER: u64 = 128 * 1024;
/// Time for answers under way to end after the shutdown was asked for.
const GRACE: Duration = Duration::from_secs(10);
/// The pause after the system had no more file descriptors.
const BREATH: Duration = Duration::from_millis(100);
/// The pause after it was told that there is no room.
const TELL_AGAIN: Duration = Duration::from_secs(60);
/// Seconds after which somebody for whom there was no room may come again.
const COME_AGAIN: u32 = 5;
/// Line of the log about peers that speak TLS where it is not spoken.
const SPOKE_TLS: &str = "TLS is spoken to the port for plain HTTP: use http://, or the port for https://";
/// Word for browsers that are to come back over TLS only.
const HSTS: HeaderValue = HeaderValue::from_static("max-age=31536000");

/// Rules of a listener.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// Limits on concurrent connections and requests.
    pub limits: Limits,
    /// Proxies that are believed whom they name as a request's sender.
    pub proxies: Vec<IpAddr>,
    /// Counts connections and requests for which there was no room.
    pub turned_away: Counter,
    /// Whether browsers that came over TLS are to come back over TLS only, for a year.
    pub hsts: bool,
}

/// Binds an address.
///
/// # Errors
/// When it is taken or not ours.
pub async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // As `TcpListener::bind` does: a server that restarts need not wait for old connections to be forgotten.
    socket.set_reuseaddr(true)?;
    // Connections have it from here.
    socket.set_send_buffer_size(SEND_BUFFER)?;
    #[cfg(target_os = "linux")]
    socket2::SockRef::from(&socket).set_tcp_notsent_lowat(UNSENT)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves `router` in plain HTTP by these rules until `stop`, then finishes what is under way.
pub async fn serve(listener: TcpListener, router: Router, rules: Rules, stop: CancellationToken) {
    Site::new(router, rules).serve(listener, Transport::Plain, stop).await;
}

/// A site behind one listener or several, whose connections share its room.
#[derive(Clone)]
pub struct Site {
    door: Arc<Door>,
    router: Router,
}

impl Site {
    /// Puts these rules around a router.
    pub fn new(router: Router, rules: Rules) -> Self {
        let (told, spoke_tls) = Default::default();
        Self { door: Arc::new(Door { room: Room::new(&rules.limits), rules, told, spoke_tls }), router }
    }

    /// Serves it at a listener until `stop`, then finishes what is under way.
    pub async fn serve(self, listener: TcpListener, transport: Transport, stop: CancellationToken) {
        let Self { door, router } = self;
        let graceful = GracefulShutdown::new();
        while let Some((stream, peer, admission)) = door.accept(&listener, &stop).await {
            let visit = Visit {
                router: router.clone(),
                peer,
                transport: transport.clone(),
                watcher: graceful.watcher(),
                stop: stop.clone(),
            };
            tokio::spawn(Arc::clone(&door).attend(stream, admission, visit));
        }
        drop(listener);
        if tokio::time::timeout(GRACE, graceful.shutdown()).await.is_err() {
            tracing::warn!("some answers were not finished in time");
        }
    }
}

/// A connection's visit to a site.
struct Visit {
    router: Router,
    peer: SocketAddr,
    transport: Transport,
    watcher: Watcher,
    stop: CancellationToken,
}

/// Admission of connections.
struct Door {
    room: Room,
    rules: Rules,
    /// Time of the last log line about a connection that found no room.
    told: Mutex<Option<Instant>>,
    /// Peers that speak TLS where it is not spoken.
    spoke_tls: Told,
}

impl Door {
    async fn accept(
        &self,
        listener: &TcpListener,
        stop: &CancellationToken,
    ) -> Option<(TcpStream, SocketAddr, Admission)> {
        let accepted = async {
            let mut told = false;
            loop {
                match listener.accept().await {
                    Ok((stream, peer)) => {
                        let address = Some(peer.ip().to_canonical()).filter(|ip| !self.is_proxy(*ip));
                        let Some(admission) = self.room.admit(address) else {
                            self.no_room();
                            continue;
                        };
                        // Answers are written whole; waiting for more to send would only delay them.
                        let _ = stream.set_nodelay(true);
                        return (stream, peer, admission);
                    }
                    Err(error) => {
                        if !std::mem::replace(&mut told, true) {
                            tracing::warn!(%error, "no connection can be taken just now");
                        }
                        tokio::time::sleep(BREATH).await;
                    }
                }
            }
        };
        tokio::select! {
            () = stop.cancelled() => None,
            accepted = accepted => Some(accepted),
        }
    }

    fn is_proxy(&self, ip: IpAddr) -> bool {
        self.rules.proxies.contains(&ip)
    }

    /// Waits for a place where there is none yet, and answers requests.
    async fn attend(self: Arc<Self>, stream: TcpStream, admission: Admission, visit: Visit) {
        let place = match admission {
            Admission::ConnectionSlot(place) => Some(place),
            Admission::Queue(queued, stranger) => tokio::select! {
                place = self.room.wait(queued, stranger) => place,
                () = visit.stop.cancelled() => return,
            },
        };
        match place {
            Some(place) => self.converse(stream, place, visit).await,
            None => self.no_room(),
        }
    }

    /// Answers the requests of a connection until it ends, or has to make room for others.
    async fn converse(self: Arc<Self>, stream: TcpStream, place: ConnectionSlot, visit: Visit) {
        let limits = self.rules.limits;
        let stall = if place.reserved { limits.short_stall() } else { limits.stall };
        let (peer, wait) = (visit.peer, Arc::clone(&place.entry.wait));
        let stream = Stalling::new(stream, stall, Arc::clone(&wait));
        tokio::select! {
            () = self.open(stream, Arc::new(place), visit) => {}
            () = wait.ended() => tracing::debug!(%peer, "a connection made room for others"),
        }
    }

    /// Finds out what is spoken, and speaks it.
    async fn open(self: Arc<Self>, stream: Stalling, place: Arc<ConnectionSlot>, visit: Visit) {
        let acceptor = match &visit.transport {
            Transport::Plain => {
                let (door, peer) = (Arc::clone(&self), visit.peer);
                let stream = PlainOnly::new(stream, move || door.spoke_tls.tell(peer, SPOKE_TLS));
                return self.speak(stream, None, place, visit).await;
            }
            Transport::Tls(acceptor) => Arc::clone(acceptor),
        };
        let limits = self.rules.limits;
        let time = if place.reserved { limits.short_handshake() } else { limits.handshake };
        let accepted = tokio::select! {
            accepted = acceptor.accept(stream, visit.peer, time) => accepted,
            () = visit.stop.cancelled() => return,
        };
        match accepted {
            Some(Accepted::Tls(stream)) => self.speak(stream, Some(OverTls), place, visit).await,
            Some(Accepted::Plain(stream)) => {
                let visit = Visit { router: wrong_port::router(), ..visit };
                self.speak(stream, None, place, visit).await;
            }
            None => {}
        }
    }

    /// Speaks HTTP on a stream.
    async fn speak<S>(
        self: Arc<Self>,
        stream: S,
        tls: Option<OverTls>,
        place: Arc<ConnectionSlot>,
        visit: Visit,
    ) where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let limits = self.rules.limits;
        let head = if place.reserved { limits.short_head() } else { limits.head };
        let mut builder = hyper::server::conn::http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(head).max_buf_size(LONGEST_HEAD);
        builder.keep_alive(!place.reserved);
        let Visit { router, peer, watcher, .. } = visit;
        let door = Arc::clone(&self);
        let service = tower::service_fn(move |request| {
            Arc::clone(&door).answer(router.clone(), request, (peer, tls), Arc::clone(&place))
        });
        let connection = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
        // What a peer does to its connection is its own affair.
        if let Err(error) = watcher.watch(connection).await {
            tracing::debug!(%peer, %error, "a connection broke");
        }
    }

    async fn answer(
        self: Arc<Self>,
        router: Router,
        request: hyper::Request<Incoming>,
        (peer, tls): (SocketAddr, Option<OverTls>),
        place: Arc<ConnectionSlot>,
    ) -> Result<Response, Infallible> {
        let wait = &place.entry.wait;
        let answering = wait.answers();
        let mut request = drain::request(request).map(|body| waiting::watched(body, Arc::clone(wait)));
        let ip = peer.ip().to_canonical();
        let sender = sender::sender(ip, request.headers(), &self.rules.proxies);
        let passed_on = sender != ip;
        let stranger = match passed_on {
            true => self.room.request(sender),
            false => Some(place.stranger.clone()),
        };
        let Some(stranger) = stranger else {
            return Ok(self.turn_away(StatusCode::TOO_MANY_REQUESTS, "too-many-requests"));
        };
        let mut in_reserve = match passed_on && place.reserved {
            true => match self.room.request_in_reserve(sender) {
                Some(counted) => Some(counted),
                None => return Ok(self.turn_away(StatusCode::TOO_MANY_REQUESTS, "too-many-requests")),
            },
            false => None,
        };
        let reads = matches!(*request.method(), Method::GET | Method::HEAD);
        let extensions = request.extensions_mut();
        extensions.insert(ConnectInfo(peer));
        extensions.insert(Peer(sender));
        extensions.insert(stranger.clone().on(wait));
        if let Some(tls) = tls {
            extensions.insert(tls);
        }
        let mut response = router.oneshot(request).await?;
        if tls.is_some() && self.rules.hsts {
            response.headers_mut().insert(header::STRICT_TRANSPORT_SECURITY, HSTS);
        }
        // Whatever of the request's body nobody waits for any more.
        wait.moves();
        if place.reserved && reads && is_long(&response) {
            match self.room.for_long_answer().await {
                Some(permit) => {
                    place.leaves_reserve(permit);
                    in_reserve = None;
                }
                None => return Ok(self.turn_away(StatusCode::SERVICE_UNAVAILABLE, "busy")),
            }
        }
        // It counts until its last byte is sent.
        let counted = passed_on.then_some(stranger);
        Ok(response.map(|body| held::hold(body, (answering, in_reserve, counted))))
    }

    /// Counts somebody for whom there is no room, and tells it now and then.
    fn no_room(&self) {
        self.rules.turned_away.inc();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_none_or(|told| told.elapsed() >= TELL_AGAIN) {
            *told = Some(Instant::now());
            let Limits { connections, per_address, .. } = self.rules.limits;
            tracing::warn!(connections, per_address, "no room for some HTTP connections or requests");
        }
    }

    fn turn_away(&self, status: StatusCode, kind: &str) -> Response {
        self.no_room();
        Problem::new(status, kind, "there is no room for more just now; try again in a few seconds")
            .retry_after(COME_AGAIN)
            .into_response()
    }
}

/// Whether an answer is too long for a place of the reserve: firmware, large files, and streams without an end.
fn is_long(response: &Response) -> bool {
    response.body().size_hint().exact().is_none_or(|len| len > LONG_ANSWER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_system_takes_little_of_what_nobody_reads() {
        let listener = bind(([127, 0, 0, 1], 0).into()).await.unwrap();
        let _silent = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let mut taken = 0;
        while tokio::time::timeout(Duration::from_millis(500), stream.writable()).await.is_ok() {
            match stream.try_write(&[7; 64 * 1024]) {
                Ok(len) => taken += len,
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
        }
        assert!(taken > 0 && taken < 1 << 20, "{taken} bytes");
    }
}
