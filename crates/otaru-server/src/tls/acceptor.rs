//! Handshakes of HTTPS: each has a deadline and a number of bytes.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::acme::PROTOCOL;
use super::failure::Failure;
use super::opening::Opening;
use super::told::Told;

/// Bytes that wait in a connection for its peer to read, beside what the system keeps.
const UNSENT: usize = 16 * 1024;

/// Outcome of a connection's opening.
#[derive(Debug)]
pub enum Accepted<S> {
    /// A connection over TLS.
    Tls(Box<TlsStream<Opening<S>>>),
    /// A peer that speaks something else, from its first byte.
    Plain(Opening<S>),
}

/// Acceptor of connections over TLS.
pub struct Acceptor {
    tls: TlsAcceptor,
    failures: Told,
}

impl fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acceptor").finish_non_exhaustive()
    }
}

impl Acceptor {
    /// Accepts with these settings.
    pub fn new(settings: Arc<ServerConfig>) -> Self {
        Self { tls: settings.into(), failures: Told::default() }
    }

    /// Takes a connection through its handshake, within `time`. None if it came to nothing, which is told at a bounded rate.
    pub async fn accept<S>(&self, stream: S, peer: SocketAddr, time: Duration) -> Option<Accepted<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let handshake =
            self.tls.accept_with(Opening::new(stream), |session| session.set_buffer_limit(Some(UNSENT)));
        let error = match timeout(time, handshake.into_fallible()).await {
            // Whoever looks for the proof of a name has nothing more to say: RFC 8737, section 3.
            Ok(Ok(mut stream)) if stream.get_ref().1.alpn_protocol() == Some(PROTOCOL) => {
                let _ = timeout(time, stream.shutdown()).await;
                tracing::debug!(%peer, "a handshake for acme-tls/1 is done");
                return None;
            }
            Ok(Ok(mut stream)) => {
                stream.get_mut().0.finish();
                return Some(Accepted::Tls(Box::new(stream)));
            }
            Ok(Err((_, opening))) if opening.is_plain() => return Some(Accepted::Plain(opening)),
            Ok(Err((error, _))) => error,
            Err(_) => io::ErrorKind::TimedOut.into(),
        };
        match Failure::from(&error) {
            Failure::Gone => tracing::debug!(%peer, %error, "a handshake came to nothing"),
            Failure::Fault(why) => {
                self.failures.tell(peer, &format!("TLS handshakes of HTTPS failed: {why}"))
            }
        }
        None
    }
}
