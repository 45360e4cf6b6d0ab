//! TLS for the agent: a stream around a stream, behind one small trait, so that the agent knows no library.
//!
//! On a chip a firmware brings mbed TLS, on a PC the simulator brings rustls; [`NoTls`] is for a firmware without, and costs nothing. The
//! library decides whom it trusts and what time it is. Sentences here name nothing that a server sent.

use core::fmt;
use core::marker::PhantomData;

use embedded_io_async::{ErrorKind, ErrorType, Read, Write};
use otaru_format::status::{Code, Dates, TlsReport};

/// TLS client.
pub trait Tls {
    /// Session around a stream of the network.
    type Stream<'t, S: Read + Write + 't>: Read + Write + ErrorType<Error = TlsError>
    where
        Self: 't;

    /// Whether there is TLS, and somebody to trust. Without, `https://` is refused as a URL that cannot be fetched.
    fn is_ready(&self) -> bool {
        true
    }

    /// Returns what reports tell of it: the CAs that are trusted, and whether dates are held against a clock now.
    fn report(&self) -> TlsReport<&str> {
        TlsReport { trusts: "", dates: Dates::Unchecked }
    }

    /// Does the handshake with the server of that name, or of that address without brackets. Resolves once the server's certificate was
    /// verified: nothing is written to the session before. May be dropped, and `stream` with it.
    ///
    /// # Errors
    /// [`TlsError`], as one of its constants.
    async fn open<'t, S: Read + Write + 't>(
        &'t self,
        stream: S,
        server: &str,
    ) -> Result<Self::Stream<'t, S>, TlsError>;
}

/// Failure of TLS: its code for programs and its sentence for people.
///
/// The constants are all there are. As constants they take room in a firmware only where its TLS tells them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct TlsError {
    #[cfg_attr(feature = "defmt", defmt(Debug2Format))]
    code: Code,
    text: &'static str,
}

impl TlsError {
    /// No path from the server's certificate to a CA that is trusted.
    pub const UNKNOWN_CA: Self =
        Self::new(Code::TlsUntrusted, "the server's certificate is of no CA that this device trusts");
    /// A certificate that may not be used as it is: a CA that is none, a constraint on names, a weak key or hash, or one whose key the server
    /// does not have.
    pub const BAD_CERTIFICATE: Self = Self::new(
        Code::TlsUntrusted,
        "a certificate of the server may not be used for this, is too weak, or is not the server's own",
    );
    /// A certificate for another host.
    pub const WRONG_HOST: Self =
        Self::new(Code::TlsWrongHost, "the server's certificate is for another host than the one asked for");
    /// A certificate that has expired.
    pub const EXPIRED: Self = Self::new(Code::TlsExpired, "a certificate of the server has expired");
    /// A certificate of the future.
    pub const NOT_YET_VALID: Self = Self::new(
        Code::TlsExpired,
        "a certificate of the server is not valid yet; is the device's clock right?",
    );
    /// No version, cipher, curve or kind of signature in common.
    pub const NOTHING_IN_COMMON: Self = Self::new(
        Code::TlsNothingInCommon,
        "the server and this device have no TLS version, cipher or curve in common",
    );
    /// The connection ended during the handshake.
    pub const CLOSED: Self = Self::new(Code::TlsClosed, "the server closed during the TLS handshake");
    /// The server does not take the device's certificate, or asks for one.
    pub const CLIENT_REFUSED: Self =
        Self::new(Code::TlsClosed, "the server refuses this device's certificate, or wants one");
    /// The handshake takes too long.
    pub const STALLED: Self = Self::new(Code::Timeout, "the TLS handshake takes too long");
    /// No memory for a session.
    pub const OUT_OF_MEMORY: Self =
        Self::new(Code::TlsMemory, "not enough free memory for TLS at the moment");
    /// A record that is larger than the buffer.
    pub const RECORD_TOO_LARGE: Self = Self::new(
        Code::RecordTooLarge,
        "the server sends larger TLS records than this firmware has room for; let it send 4 KiB at most, \
         or build the firmware for any server",
    );
    /// Something else than TLS.
    pub const NOT_TLS: Self = Self::new(Code::TlsProtocol, "the server does not speak TLS at this port");
    /// Something that TLS does not allow.
    pub const PROTOCOL: Self = Self::new(Code::TlsProtocol, "the server breaks TLS");
    /// No TLS at all.
    pub const NOT_THERE: Self =
        Self::new(Code::UnsupportedUrl, "this firmware has no TLS, or no CA to trust");
    /// The stream below broke.
    pub const BROKEN: Self = Self::new(Code::Connect, "the connection broke");

    const fn new(code: Code, text: &'static str) -> Self {
        Self { code, text }
    }

    /// The code for reports.
    pub const fn code(self) -> Code {
        self.code
    }

    /// Whether another attempt may go better without anybody doing anything about it.
    pub const fn is_transient(self) -> bool {
        matches!(
            self.code,
            Code::TlsClosed | Code::Timeout | Code::TlsMemory | Code::TlsProtocol | Code::Connect
        )
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text)
    }
}

impl core::error::Error for TlsError {}

impl embedded_io_async::Error for TlsError {
    fn kind(&self) -> ErrorKind {
        match self.code {
            Code::Connect | Code::TlsClosed => ErrorKind::ConnectionReset,
            Code::Timeout => ErrorKind::TimedOut,
            Code::TlsMemory => ErrorKind::OutOfMemory,
            _ => ErrorKind::InvalidData,
        }
    }
}

/// A firmware without TLS.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoTls;

/// Session that there is not.
pub struct NoStream<S> {
    never: core::convert::Infallible,
    stream: PhantomData<S>,
}

impl<S> fmt::Debug for NoStream<S> {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.never {}
    }
}

impl<S> ErrorType for NoStream<S> {
    type Error = TlsError;
}

impl<S> Read for NoStream<S> {
    async fn read(&mut self, _: &mut [u8]) -> Result<usize, TlsError> {
        match self.never {}
    }
}

impl<S> Write for NoStream<S> {
    async fn write(&mut self, _: &[u8]) -> Result<usize, TlsError> {
        match self.never {}
    }

    async fn flush(&mut self) -> Result<(), TlsError> {
        match self.never {}
    }
}

impl Tls for NoTls {
    type Stream<'t, S: Read + Write + 't> = NoStream<S>;

    fn is_ready(&self) -> bool {
        false
    }

    async fn open<'t, S: Read + Write + 't>(&'t self, _: S, _: &str) -> Result<NoStream<S>, TlsError> {
        Err(TlsError::NOT_THERE)
    }
}
