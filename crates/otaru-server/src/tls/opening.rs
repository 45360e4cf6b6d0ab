//! First bytes of a connection: counted until the handshake is done, and told from those of other protocols.
//!
//! A connection of TLS begins with a record of type "handshake", byte 0x16. No method of HTTP does, and a CONNECT of MQTT begins with 0x10.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// First byte of a connection of TLS.
const HANDSHAKE: u8 = 0x16;
/// Bytes that a peer may send before its handshake is done. A hello has up to 2 KiB, with keys that outlast quantum computers; a
/// client's certificates a few more.
const LONGEST: usize = 16 * 1024;

/// Peer that does not speak TLS where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("TLS is spoken at this port, and nothing else")]
pub(super) struct SpokePlain;

/// Peer that says more than a handshake has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the handshake is too long")]
pub(super) struct TooLong;

/// State of a stream below TLS.
#[derive(Debug)]
enum State {
    /// Nothing came yet.
    Silent,
    /// A handshake goes on; so many more bytes may come.
    Handshake(usize),
    /// The handshake is done.
    Done,
    /// It is no TLS; these bytes came, and are read again.
    Plain(Vec<u8>),
}

/// Stream below TLS. Reading fails when the first byte is not one of TLS; after that it is read as it is, from its beginning.
#[derive(Debug)]
pub struct Opening<S> {
    stream: S,
    state: State,
}

impl<S> Opening<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, state: State::Silent }
    }

    /// Lets any number of bytes come from now on.
    pub(super) fn finish(&mut self) {
        self.state = State::Done;
    }

    /// Whether it turned out to be another protocol.
    pub(super) fn is_plain(&self) -> bool {
        matches!(self.state, State::Plain(_))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Opening<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let State::Plain(again) = &mut this.state {
            if again.is_empty() {
                return Pin::new(&mut this.stream).poll_read(cx, buf);
            }
            let count = again.len().min(buf.remaining());
            buf.put_slice(&again.drain(..count).collect::<Vec<u8>>());
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
        let came = buf.filled().get(before..).unwrap_or_default();
        let left = match (&this.state, came.first()) {
            (State::Done, _) | (_, None) => return Poll::Ready(Ok(())),
            (State::Silent, Some(&HANDSHAKE)) => LONGEST,
            (State::Handshake(left), _) => *left,
            (State::Silent | State::Plain(_), _) => {
                this.state = State::Plain(came.to_vec());
                buf.set_filled(before);
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, SpokePlain)));
            }
        };
        let Some(left) = left.checked_sub(came.len()) else {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, TooLong)));
        };
        this.state = State::Handshake(left);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Opening<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Stream where TLS is not spoken: it ends when the first byte is one of TLS.
#[derive(Debug)]
pub struct PlainOnly<S, F> {
    stream: S,
    /// Tells it; nothing after the first byte.
    tell: Option<F>,
}

impl<S, F: FnOnce()> PlainOnly<S, F> {
    /// Watches the first byte of a stream, and calls `tell` if its peer speaks TLS.
    pub fn new(stream: S, tell: F) -> Self {
        Self { stream, tell: Some(tell) }
    }
}

impl<S: AsyncRead + Unpin, F: FnOnce() + Unpin> AsyncRead for PlainOnly<S, F> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.tell.is_none() {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        let tell = self.tell.take();
        if let (Some(&HANDSHAKE), Some(tell)) = (buf.filled().get(before), tell) {
            tell();
            buf.set_filled(before);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin, F: Unpin> AsyncWrite for PlainOnly<S, F> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn what_is_no_tls_is_read_again_from_its_beginning() {
        let (mut peer, here) = tokio::io::duplex(64);
        peer.write_all(b"GET / HTTP").await.unwrap();
        let mut opening = Opening::new(here);
        let error = opening.read(&mut [0; 4]).await.unwrap_err();
        assert!(error.get_ref().unwrap().is::<SpokePlain>() && opening.is_plain());
        peer.write_all(b"/1.1").await.unwrap();
        drop(peer);
        let mut text = String::new();
        opening.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "GET / HTTP/1.1");
    }

    #[tokio::test]
    async fn only_a_handshake_is_counted() {
        let (mut peer, here) = tokio::io::duplex(2 * LONGEST);
        peer.write_all(&[HANDSHAKE; LONGEST]).await.unwrap();
        let mut opening = Opening::new(here);
        let mut all = vec![0; LONGEST];
        opening.read_exact(&mut all).await.unwrap();
        peer.write_all(b"x").await.unwrap();
        let error = opening.read(&mut all).await.unwrap_err();
        assert!(error.get_ref().unwrap().is::<TooLong>());
        opening.finish();
        peer.write_all(&[0; LONGEST]).await.unwrap();
        opening.read_exact(&mut all).await.unwrap();
    }

    #[tokio::test]
    async fn tls_is_told_where_it_is_not_spoken() {
        for (first, is_tls) in [(&b"\x16\x03\x01"[..], true), (b"GET", false), (b"\x10\x16", false)] {
            let (mut peer, here) = tokio::io::duplex(64);
            peer.write_all(first).await.unwrap();
            let mut told = false;
            let count = PlainOnly::new(here, || told = true).read(&mut [0; 8]).await.unwrap();
            assert_eq!((told, count == 0), (is_tls, is_tls), "{first:?}");
        }
    }
}
