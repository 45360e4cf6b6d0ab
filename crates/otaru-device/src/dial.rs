//! Connections to servers by name: looked up, opened, and wrapped in TLS where that is asked for.

use core::net::IpAddr;
use core::time::Duration;

use embedded_io_async::{Error, ErrorKind, ErrorType, Read, Write};
use embedded_nal_async::{AddrType, Dns, TcpConnect};

use crate::board::Clock;
use crate::timeout::within;
use crate::tls::{Tls, TlsError};

/// The network, and TLS over it.
pub(crate) struct Dialer<'n, N, T> {
    pub(crate) net: &'n N,
    pub(crate) tls: &'n T,
}

impl<N, T> Clone for Dialer<'_, N, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<N, T> Copy for Dialer<'_, N, T> {}

/// Server to connect to.
#[derive(Clone, Copy)]
pub(crate) struct Server<'s> {
    /// Name or address; an IPv6 address may have its brackets.
    pub(crate) host: &'s str,
    /// The address, where it is known.
    pub(crate) address: Option<IpAddr>,
    /// TCP port.
    pub(crate) port: u16,
    /// Whether TLS is spoken.
    pub(crate) tls: bool,
}

/// Longest times.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    /// For the name and the connection.
    pub(crate) connect: Duration,
    /// For the handshake.
    pub(crate) handshake: Duration,
}

/// Reason that there is no connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DialError {
    /// The name has no address.
    Dns,
    /// No connection.
    Connect,
    /// No connection in time.
    Timeout,
    /// No session.
    Tls(TlsError),
}

/// Connection of a dialer.
pub(crate) type Dialed<'n, N, T> =
    Stream<<N as TcpConnect>::Connection<'n>, <T as Tls>::Stream<'n, <N as TcpConnect>::Connection<'n>>>;

impl<'n, N: TcpConnect + Dns, T: Tls> Dialer<'n, N, T> {
    /// Connects.
    pub(crate) async fn dial<C: Clock>(
        self,
        server: Server<'_>,
        clock: &C,
        limits: Limits,
    ) -> Result<Dialed<'n, N, T>, DialError> {
        let connected = within(clock, limits.connect, async {
            let address = match server.address {
                Some(address) => address,
                None => {
                    let found = self.net.get_host_by_name(server.host, AddrType::Either).await;
                    found.map_err(|_| DialError::Dns)?
                }
            };
            self.net.connect((address, server.port).into()).await.map_err(|_| DialError::Connect)
        });
        let socket = connected.await.map_err(|_| DialError::Timeout)??;
        if !server.tls {
            return Ok(Stream::Plain(socket));
        }
        let name = tls_name(server.host);
        let opened = within(clock, limits.handshake, self.tls.open(socket, name)).await;
        opened.map_err(|_| DialError::Tls(TlsError::STALLED))?.map(Stream::Tls).map_err(DialError::Tls)
    }
}

/// The name as a certificate has it: without the dot of a complete name, or the brackets of an IPv6 address.
fn tls_name(host: &str) -> &str {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    bare.unwrap_or_else(|| host.strip_suffix('.').unwrap_or(host))
}

/// Connection in clear or over TLS.
pub(crate) enum Stream<S, T> {
    /// In clear.
    Plain(S),
    /// Over TLS.
    Tls(T),
}

/// Failure of a [`Stream`].
#[derive(Debug, Clone, Copy)]
pub(crate) enum StreamError {
    /// The connection broke.
    Broken(ErrorKind),
    /// TLS did.
    Tls(TlsError),
}

/// Failures that may be one of TLS.
pub(crate) trait MayBeTls {
    /// The failure of TLS, if it is one, and more than a connection that broke.
    fn tls(&self) -> Option<TlsError> {
        None
    }
}

impl MayBeTls for StreamError {
    fn tls(&self) -> Option<TlsError> {
        match self {
            Self::Tls(error) if *error != TlsError::BROKEN => Some(*error),
            _ => None,
        }
    }
}

impl MayBeTls for core::convert::Infallible {}

#[cfg(test)]
impl MayBeTls for ErrorKind {}

impl core::fmt::Display for StreamError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Broken(_) => f.write_str("the connection broke"),
            Self::Tls(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for StreamError {}

impl Error for StreamError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Broken(kind) => *kind,
            Self::Tls(error) => error.kind(),
        }
    }
}

impl<S, T> ErrorType for Stream<S, T> {
    type Error = StreamError;
}

impl<S: Read, T: Read<Error = TlsError>> Read for Stream<S, T> {
    async fn read(&mut self, buf: &mut [u8]) -> Result<usize, StreamError> {
        match self {
            Self::Plain(stream) => stream.read(buf).await.map_err(|error| StreamError::Broken(error.kind())),
            Self::Tls(stream) => stream.read(buf).await.map_err(StreamError::Tls),
        }
    }
}

impl<S: Write, T: Write<Error = TlsError>> Write for Stream<S, T> {
    async fn write(&mut self, buf: &[u8]) -> Result<usize, StreamError> {
        match self {
            Self::Plain(stream) => stream.write(buf).await.map_err(|error| StreamError::Broken(error.kind())),
            Self::Tls(stream) => stream.write(buf).await.map_err(StreamError::Tls),
        }
    }

    async fn flush(&mut self) -> Result<(), StreamError> {
        match self {
            Self::Plain(stream) => stream.flush().await.map_err(|error| StreamError::Broken(error.kind())),
            Self::Tls(stream) => stream.flush().await.map_err(StreamError::Tls),
        }
    }
}
