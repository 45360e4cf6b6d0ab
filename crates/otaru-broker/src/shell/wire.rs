//! A stream of any kind, read into a buffer only while there is something to read, and written as far as the peer takes it.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};

use crate::outgoing::Outgoing;

thread_local! {
    /// Buffer of a thread that reads, so that no connection needs one while it waits.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; 16 * 1024].into());
}

/// Time that a peer has to take the last packets.
const GOODBYE: Duration = Duration::from_secs(1);

/// Bytes that are read in vain, so that a last packet arrives.
const LAST: usize = 4096;

/// A stream with what was read and is no whole packet yet, and what is to be written.
#[derive(Debug)]
pub(super) struct Wire<S> {
    stream: S,
    pub(super) incoming: Vec<u8>,
    pub(super) out: Outgoing,
    /// Whether written bytes may still be held back by the stream.
    unflushed: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, incoming: Vec::new(), out: Outgoing::default(), unflushed: false }
    }

    /// Reads what is there, so that no more than `limit` bytes are kept. Returns how many came; 0 at the end of the stream.
    pub(super) fn poll_read(&mut self, context: &mut Context<'_>, limit: usize) -> Poll<io::Result<usize>> {
        SCRATCH.with_borrow_mut(|scratch| {
            let room = scratch.len().min(limit.saturating_sub(self.incoming.len()));
            let mut buffer = ReadBuf::new(scratch.get_mut(..room).unwrap_or_default());
            ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer))?;
            let came = buffer.filled();
            let needed = self.incoming.len() + came.len();
            if needed > self.incoming.capacity() && !came.is_empty() {
                let wanted = needed.max(2 * self.incoming.capacity()).min(limit);
                self.incoming.reserve_exact(wanted - self.incoming.len());
            }
            self.incoming.extend_from_slice(came);
            Poll::Ready(Ok(came.len()))
        })
    }

    /// Reads what has come already, so that no more than `limit` bytes are kept. An end of the stream is told by the next read as well.
    pub(super) async fn read_what_is_there(&mut self, limit: usize) {
        poll_fn(|context| {
            let _ = self.poll_read(context, limit);
            Poll::Ready(())
        })
        .await;
    }

    /// Drops the packets at the beginning that are done. Memory is given back as soon as nothing is left.
    pub(super) fn consume(&mut self, count: usize) {
        match count < self.incoming.len() {
            true => drop(self.incoming.drain(..count)),
            false => self.incoming = Vec::new(),
        }
    }

    /// Writes as much as the peer takes; ready once all is written.
    pub(super) fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.out.is_empty() {
            let count = ready!(Pin::new(&mut self.stream).poll_write(context, self.out.next()))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.out.advance(count);
            self.unflushed = true;
        }
        if self.unflushed {
            ready!(Pin::new(&mut self.stream).poll_flush(context))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Ends its own side of the stream.
    pub(super) fn poll_shutdown(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    /// Tells whether something is still to be written.
    pub(super) fn is_writing(&self) -> bool {
        self.unflushed || !self.out.is_empty()
    }

    /// Writes the rest and some last bytes as far as the peer takes them at once, and closes the stream.
    pub(super) async fn close_at_once(mut self, last: &[u8]) {
        poll_fn(|context| {
            // A system that finds unread bytes at the end may take the last packet back.
            let limit = self.incoming.len() + LAST;
            let _ = self.poll_read(context, limit);
            if let Poll::Ready(Ok(())) = self.poll_write(context) {
                self.out.packets().extend_from_slice(last);
                let _ = self.poll_write(context);
            }
            let _ = self.poll_shutdown(context);
            Poll::Ready(())
        })
        .await;
    }

    /// Writes the rest and some last bytes, and closes the stream. Bytes that the peer has sent meanwhile are passed over: a system
    /// that finds some unread tells the peer of a broken connection, and the last packet, which says why, would be lost.
    pub(super) async fn close(mut self, last: &[u8]) {
        let goodbye = async {
            poll_fn(|context| self.poll_write(context)).await?;
            self.stream.write_all(last).await?;
            self.stream.shutdown().await?;
            while poll_fn(|context| {
                self.incoming.clear();
                self.poll_read(context, LAST)
            })
            .await?
                > 0
            {}
            io::Result::Ok(())
        };
        // Whoever does not take them in time goes without.
        let _ = tokio::time::timeout(GOODBYE, goodbye).await;
    }
}
