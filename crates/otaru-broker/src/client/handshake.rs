//! From an address to a connection: TCP, CONNECT, CONNACK, and what came of it.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use otaru_format::mqtt::Outcome;
use otaru_tls::Reason;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_util::either::Either;

use super::error::BrokerError;
use super::frame::{Frame, Frames};
use super::pace::Pace;
use super::packet::{self, CONNACK, Connack, Limits};
use super::url::BrokerUrl;
use crate::version::Version;

/// First byte of a record in which a TLS server complains (RFC 8446, section 5.1).
const TLS_ALERT: u8 = 0x15;
/// Bytes that are read at once.
pub(super) const READ: usize = 8 * 1024;

/// Connection, in clear or over TLS.
pub(super) type Wire = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// A connection that the broker accepted.
pub(super) struct Accepted {
    pub(super) stream: Wire,
    pub(super) version: Version,
    pub(super) limits: Limits,
    /// Bytes that came behind the CONNACK.
    pub(super) early: Vec<u8>,
}

/// A connection that was not made.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) error: BrokerError,
    pub(super) outcome: Outcome,
}

impl Failure {
    /// A failure that says nothing about versions.
    fn other(error: BrokerError) -> Self {
        Self { error, outcome: Outcome::SaysNothing }
    }
}

/// Connects in this version, as this client.
pub(super) async fn open(
    url: &BrokerUrl,
    version: Version,
    client: &str,
    pace: Pace,
) -> Result<Accepted, Failure> {
    match timeout(pace.answer, handshake(url, version, client, pace.keep_alive)).await {
        Ok(result) => result,
        Err(_) => Err(Failure::other(BrokerError::Silent(url.to_string()))),
    }
}

async fn handshake(
    url: &BrokerUrl,
    version: Version,
    client: &str,
    keep_alive: Duration,
) -> Result<Accepted, Failure> {
    let connect = packet::connect(version, client, keep_alive, url.login().as_ref()).map_err(|_| {
        // A client id of ours always fits; a name or password may be too long.
        Failure::other(BrokerError::Login {
            broker: url.to_string(),
            username: url.username.clone(),
            why: None,
        })
    })?;
    let mut stream = reach(url).await.map_err(Failure::other)?;
    let (body, early) = match answer(&mut stream, &connect).await {
        Ok(Answer::Connack { body, early }) => (body, early),
        Ok(Answer::Closed) => {
            let error = BrokerError::ClosedSilently { broker: url.to_string(), asked: url.version };
            return Err(Failure { error, outcome: Outcome::ClosedWithoutAByte });
        }
        Ok(Answer::NotMqtt(why)) => {
            return Err(Failure::other(BrokerError::NotMqtt(url.to_string(), why.into())));
        }
        Err(error) => {
            // In TLS 1.3 a server refuses a client's certificate after its own handshake.
            let error = match Reason::of_io(&error, false) {
                Some(why) => BrokerError::Tls(url.to_string(), why),
                None => BrokerError::Network(url.to_string(), error),
            };
            return Err(Failure::other(error));
        }
    };
    let broker = url.to_string();
    match packet::connack(version, &body) {
        Ok(Connack::Accepted(limits)) => Ok(Accepted { stream, version, limits, early }),
        Ok(Connack::WrongVersion) => Err(Failure {
            error: BrokerError::WrongVersion { broker, asked: url.version },
            outcome: Outcome::WrongVersion,
        }),
        Ok(Connack::Login(why)) => {
            Err(Failure::other(BrokerError::Login { broker, username: url.username.clone(), why }))
        }
        Ok(Connack::Refused(reason)) => Err(Failure::other(BrokerError::TurnedAway { broker, reason })),
        Err(_) => Err(Failure::other(BrokerError::NotMqtt(broker, "its CONNACK makes no sense".into()))),
    }
}

/// Makes a connection, over TLS where that is asked for.
async fn reach(url: &BrokerUrl) -> Result<Wire, BrokerError> {
    let broker = url.to_string();
    let Ok(addresses) = lookup_host((url.host.as_str(), url.port)).await else {
        return Err(BrokerError::UnknownHost(broker));
    };
    let addresses: Vec<SocketAddr> = addresses.collect();
    let stream = TcpStream::connect(addresses.as_slice()).await.map_err(|error| match error.kind() {
        io::ErrorKind::ConnectionRefused => BrokerError::Refused(broker),
        io::ErrorKind::TimedOut => BrokerError::Silent(broker),
        _ => BrokerError::Network(broker, error),
    })?;
    // Acknowledgements are small; they need not wait for more.
    let _ = stream.set_nodelay(true);
    if url.tls { secure(url, stream).await.map(Either::Right) } else { Ok(Either::Left(stream)) }
}

/// Does the TLS handshake.
async fn secure(url: &BrokerUrl, stream: TcpStream) -> Result<Box<TlsStream<TcpStream>>, BrokerError> {
    let config = url.trust.client_config().map_err(BrokerError::Trust)?;
    let broker = url.to_string();
    let Ok(name) = ServerName::try_from(url.host.clone()) else {
        return Err(BrokerError::Tls(broker, Reason::WrongHost));
    };
    match TlsConnector::from(config).connect(name, stream).await {
        Ok(stream) => Ok(Box::new(stream)),
        Err(error) => Err(BrokerError::Tls(broker, Reason::of_io(&error, true).unwrap_or(Reason::Closed))),
    }
}

/// Answer to a CONNECT.
enum Answer {
    Connack { body: Vec<u8>, early: Vec<u8> },
    Closed,
    NotMqtt(&'static str),
}

async fn answer(stream: &mut Wire, connect: &[u8]) -> io::Result<Answer> {
    // A broker may close before it has read all of this; what it said is in the bytes that came.
    let sent = async {
        stream.write_all(connect).await?;
        stream.flush().await
    };
    let sent = sent.await;
    let mut frames = Frames::default();
    let mut buf = [0; READ];
    let mut is_first = true;
    loop {
        let len = match stream.read(&mut buf).await {
            Ok(len) => len,
            Err(error) if is_closed(&error) => 0,
            Err(error) => return Err(error),
        };
        let mut bytes = buf.get(..len).unwrap_or_default();
        match bytes.first() {
            None if is_first => return sent.or_else(only_closed).map(|()| Answer::Closed),
            None => return Ok(Answer::NotMqtt("it closes the connection within its answer")),
            Some(&CONNACK) => {}
            Some(&TLS_ALERT) if is_first => return Ok(Answer::NotMqtt("it speaks TLS")),
            Some(_) if is_first => return Ok(Answer::NotMqtt("its answer is no CONNACK")),
            Some(_) => {}
        }
        is_first = false;
        match frames.take(&mut bytes) {
            Ok(Some(Frame::Packet { body, .. })) => {
                return Ok(Answer::Connack { body, early: bytes.to_vec() });
            }
            Ok(None) => {}
            Ok(Some(Frame::Skipped { .. })) => return Ok(Answer::NotMqtt("its answer is no CONNACK")),
            Err(error) => return Ok(Answer::NotMqtt(error.as_str())),
        }
    }
}

/// Tells whether a connection was closed, however rudely.
fn is_closed(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
}

fn only_closed(error: io::Error) -> io::Result<()> {
    if is_closed(&error) { Ok(()) } else { Err(error) }
}
