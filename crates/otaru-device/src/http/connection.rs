//! A socket whose every read is bounded in time, as `reqwless` wants it.

use core::time::Duration;

use embedded_io_async::{ErrorKind, ErrorType, Read};
use reqwless::TryBufRead;

use crate::board::Clock;
use crate::timeout::within;

/// A socket that gives up waiting.
pub(super) struct Timed<'c, S, C> {
    socket: S,
    clock: &'c C,
    /// Longest wait of one read.
    pub(super) limit: Duration,
}

/// Why a read failed.
#[derive(Debug)]
pub(super) enum TimedError {
    TimedOut,
    Socket,
}

impl core::fmt::Display for TimedError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::TimedOut => "timed out",
            Self::Socket => "connection lost",
        })
    }
}

impl core::error::Error for TimedError {}

impl embedded_io_async::Error for TimedError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::TimedOut => ErrorKind::TimedOut,
            Self::Socket => ErrorKind::ConnectionReset,
        }
    }
}

impl<'c, S, C> Timed<'c, S, C> {
    pub(super) const fn new(socket: S, clock: &'c C, limit: Duration) -> Self {
        Self { socket, clock, limit }
    }
}

impl<S, C> ErrorType for Timed<'_, S, C> {
    type Error = TimedError;
}

impl<S: Read, C: Clock> Read for Timed<'_, S, C> {
    async fn read(&mut self, buf: &mut [u8]) -> Result<usize, TimedError> {
        let read = within(self.clock, self.limit, self.socket.read(buf)).await;
        read.map_err(|_| TimedError::TimedOut)?.map_err(|_| TimedError::Socket)
    }
}

impl<S: Read, C: Clock> TryBufRead for Timed<'_, S, C> {}
