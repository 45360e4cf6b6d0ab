//! A session: what is read from it and written to it, and its memory.
#![forbid(unsafe_code)]

use embedded_io_async::{ErrorType, Read, Write};
use mbedtls_rs::SessionError;
use otaru_device::TlsError;

use crate::reason;
use crate::records::Watched;

/// Session with a server that was verified.
pub struct Session<'t, S: Read + Write> {
    session: mbedtls_rs::Session<'t, Watched<S>>,
}

impl<'t, S: Read + Write> Session<'t, S> {
    pub(crate) fn new(session: mbedtls_rs::Session<'t, Watched<S>>) -> Self {
        Self { session }
    }

    /// Reason that nothing can be written: the server's, if it said one before it closed, as one of 1.3 does that refuses a certificate.
    async fn last_word(&mut self, error: SessionError) -> TlsError {
        match error {
            SessionError::Io(_) => match self.session.read(&mut [0]).await {
                Err(SessionError::MbedTls(error)) => self.reason(SessionError::MbedTls(error)),
                _ => self.reason(error),
            },
            SessionError::MbedTls(_) => self.reason(error),
        }
    }

    fn reason(&mut self, error: SessionError) -> TlsError {
        reason::session(error, self.session.stream().records())
    }
}

impl<S: Read + Write> core::fmt::Debug for Session<'_, S> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Session")
    }
}

impl<S: Read + Write> ErrorType for Session<'_, S> {
    type Error = TlsError;
}

impl<S: Read + Write> Read for Session<'_, S> {
    async fn read(&mut self, buf: &mut [u8]) -> Result<usize, TlsError> {
        let read = self.session.read(buf).await;
        read.map_err(|error| self.reason(error))
    }
}

impl<S: Read + Write> Write for Session<'_, S> {
    async fn write(&mut self, buf: &[u8]) -> Result<usize, TlsError> {
        match self.session.write(buf).await {
            Ok(count) => Ok(count),
            Err(error) => Err(self.last_word(error).await),
        }
    }

    async fn flush(&mut self) -> Result<(), TlsError> {
        match self.session.flush().await {
            Ok(()) => Ok(()),
            Err(error) => Err(self.last_word(error).await),
        }
    }
}
