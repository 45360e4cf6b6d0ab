//! Host's end of a connection, in clear or over TLS.

use std::io;
use std::sync::Arc;

use embedded_io_async::{ErrorType, Read, Write};
use rustls::{ServerConfig, ServerConnection};

use crate::lan::{Lan, Stream};
use crate::tls::Session;

/// TLS of the host, for its web server and its broker.
pub type HostConfig = Arc<ServerConfig>;

/// Connection as the host has it.
pub(super) enum Pipe {
    /// In clear.
    Plain(Stream),
    /// Over TLS.
    Tls(Box<Session<Stream>>),
}

impl Pipe {
    /// Says that nothing more comes, where TLS has a word for it.
    pub(super) async fn close(&mut self) {
        if let Self::Tls(session) = self {
            session.close().await;
        }
    }

    /// Breaks the connection as a crashed host does.
    pub(super) fn reset(&self) {
        match self {
            Self::Plain(stream) => stream.reset(),
            Self::Tls(session) => session.stream().reset(),
        }
    }
}

/// Hands connections to a port, in clear or over TLS, to `serve`, as a task of the current `LocalSet`.
pub(super) fn serve<F: Future<Output = ()> + 'static>(
    lan: &Lan,
    port: u16,
    tls: Option<HostConfig>,
    serve: impl Fn(Pipe) -> F + Clone + 'static,
) {
    let mut listener = lan.listen(port);
    tokio::task::spawn_local(async move {
        loop {
            let stream = listener.accept().await;
            let (serve, tls) = (serve.clone(), tls.clone());
            tokio::task::spawn_local(async move {
                match tls {
                    None => serve(Pipe::Plain(stream)).await,
                    Some(config) => {
                        let Ok(connection) = ServerConnection::new(config) else { return };
                        if let Ok(session) = Session::open(stream, connection).await {
                            serve(Pipe::Tls(Box::new(session))).await;
                        }
                    }
                }
            });
        }
    });
}

impl ErrorType for Pipe {
    type Error = io::Error;
}

impl Read for Pipe {
    async fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buf).await,
            Self::Tls(session) => session.read(buf).await.map_err(io::Error::other),
        }
    }
}

impl Write for Pipe {
    async fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(buf).await,
            Self::Tls(session) => session.write(buf).await.map_err(io::Error::other),
        }
    }

    async fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush().await,
            Self::Tls(session) => session.flush().await.map_err(io::Error::other),
        }
    }
}
