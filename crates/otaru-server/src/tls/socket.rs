//! Streams of MQTTS. The first who reads one does its handshake, so that it lies within the time and the bounds of a login.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll, ready};

use otaru_broker::{Channel, ChannelHandle};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::{FallibleAccept, TlsStream};

use super::failure::Failure;
use super::opening::Opening;
use super::told::Told;

/// Bytes that wait in a connection for its peer to read, beside what the broker and the system keep.
const UNSENT: usize = 8 * 1024;

/// TLS of an MQTT listener. What it speaks may be replaced while connections go on.
#[derive(Clone)]
pub struct MqttTls {
    settings: Arc<RwLock<Arc<ServerConfig>>>,
    failures: Arc<Told>,
}

impl MqttTls {
    /// Accepts with these settings.
    pub fn new(settings: Arc<ServerConfig>) -> Self {
        Self { settings: Arc::new(RwLock::new(settings)), failures: Arc::default() }
    }

    /// Speaks with these settings from the next handshake on.
    pub fn replace(&self, settings: Arc<ServerConfig>) {
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = settings;
    }

    /// Puts TLS around a stream. The handle says what came of it, once it was read.
    pub fn wrap<S>(&self, stream: S, peer: SocketAddr) -> (TlsSocket<S>, ChannelHandle)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let settings = Arc::clone(&self.settings.read().unwrap_or_else(PoisonError::into_inner));
        let handshake = TlsAcceptor::from(settings)
            .accept_with(Opening::new(stream), |session| session.set_buffer_limit(Some(UNSENT)));
        let channel = ChannelHandle::default();
        let state = State::Handshake {
            handshake: Box::new(handshake.into_fallible()),
            channel: channel.clone(),
            failures: Arc::clone(&self.failures),
            peer,
        };
        (TlsSocket(state), channel)
    }
}

/// A stream over TLS.
pub struct TlsSocket<S>(State<S>);

enum State<S> {
    /// The handshake goes on. What it needs is in a box of its own, whose memory is free again once it is done.
    Handshake {
        handshake: Box<FallibleAccept<Opening<S>>>,
        channel: ChannelHandle,
        failures: Arc<Told>,
        peer: SocketAddr,
    },
    Tls(Box<TlsStream<Opening<S>>>),
    /// The peer does not speak TLS; it is told so in its own language.
    Plain(Opening<S>),
    Failed,
}

impl<S: AsyncRead + AsyncWrite + Unpin> TlsSocket<S> {
    /// Goes on with the handshake; ready once it is done.
    fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let State::Handshake { handshake, channel, failures, peer } = &mut self.0 else {
            return Poll::Ready(Ok(()));
        };
        let outcome = ready!(Pin::new(&mut **handshake).poll(cx));
        match outcome {
            Ok(mut stream) => {
                stream.get_mut().0.finish();
                let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
                channel.set(Channel::Tls { certificate: shown.map(|shown| shown.as_ref().into()) });
                self.0 = State::Tls(Box::new(stream));
                Poll::Ready(Ok(()))
            }
            Err((_, opening)) if opening.is_plain() => {
                channel.set(Channel::PlainAtTls);
                self.0 = State::Plain(opening);
                Poll::Ready(Ok(()))
            }
            Err((error, _)) => {
                if let Failure::Fault(why) = Failure::from(&error) {
                    failures.tell(*peer, &format!("TLS handshakes of MQTTS failed: {why}"));
                }
                self.0 = State::Failed;
                Poll::Ready(Err(error))
            }
        }
    }
}

fn failed<T>() -> Poll<io::Result<T>> {
    Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for TlsSocket<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_handshake(cx))?;
        match &mut self.0 {
            State::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
            State::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            State::Handshake { .. } | State::Failed => failed(),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for TlsSocket<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_handshake(cx))?;
        match &mut self.0 {
            State::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
            State::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            State::Handshake { .. } | State::Failed => failed(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            State::Tls(stream) => Pin::new(stream).poll_flush(cx),
            State::Plain(stream) => Pin::new(stream).poll_flush(cx),
            // Nothing was written yet.
            State::Handshake { .. } | State::Failed => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            State::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            State::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            State::Handshake { .. } | State::Failed => Poll::Ready(Ok(())),
        }
    }
}
