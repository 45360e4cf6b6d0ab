//! TLS of a virtual device, by rustls: what mbed TLS is on a chip.

use std::io::{self, Read as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use embedded_io_async::{ErrorType, Read, Write};
use otaru_device::format::status::{CaIds, Dates, TlsReport};
use otaru_device::{Tls, TlsError};
use otaru_tls::{Reason, Trust};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, Connection};

/// Bytes that are read from the network at once.
const PIECE: usize = 4096;

/// TLS over the streams of a virtual device; clones share it. The default is none.
#[derive(Debug, Clone, Default)]
pub struct HostTls {
    trust: Option<Trust>,
    cas: CaIds,
    /// Whether the time is not known yet.
    is_timeless: Arc<AtomicBool>,
}

impl HostTls {
    /// TLS that trusts so.
    pub fn new(trust: Trust) -> Self {
        let roots = trust.roots().unwrap_or_default();
        let cas = CaIds::of(roots.iter().map(AsRef::as_ref));
        Self { cas, trust: Some(trust), is_timeless: Arc::default() }
    }

    /// Knows no time, as a chip that wakes, until its first handshake is done.
    #[must_use]
    pub fn without_the_time(self) -> Self {
        Self { is_timeless: Arc::new(true.into()), ..self }
    }
}

/// TLS session over a stream, of either end.
pub struct Session<S> {
    stream: S,
    connection: Connection,
    /// Records on their way out, and how much of them went.
    outgoing: Vec<u8>,
    sent: usize,
}

impl<S: Read + Write> Session<S> {
    /// Does the handshake.
    ///
    /// # Errors
    /// Returns the reason, told to the other end where TLS has an alert for it.
    pub async fn open(stream: S, connection: impl Into<Connection>) -> Result<Self, TlsError> {
        let mut this = Self { stream, connection: connection.into(), outgoing: Vec::new(), sent: 0 };
        let opened = this.handshake().await;
        if opened.is_err() {
            let _ = this.send().await;
        }
        opened.map(|()| this)
    }

    /// The stream below.
    pub fn stream(&self) -> &S {
        &self.stream
    }

    /// Says that nothing more comes. Without it, a stream that ends has broken.
    pub async fn close(&mut self) {
        self.connection.send_close_notify();
        // Who is gone need not know.
        let _ = self.send().await;
    }

    async fn handshake(&mut self) -> Result<(), TlsError> {
        let mut heard = false;
        while self.connection.is_handshaking() {
            self.send().await?;
            if self.connection.is_handshaking() && self.receive(!heard).await? == 0 {
                return Err(TlsError::CLOSED);
            }
            heard = true;
        }
        self.send().await
    }

    /// Takes what comes in; `first` says that nothing has come before.
    async fn receive(&mut self, first: bool) -> Result<usize, TlsError> {
        let mut piece = [0; PIECE];
        let handshaking = self.connection.is_handshaking();
        let count = self.stream.read(&mut piece).await;
        let count = count.map_err(|_| if handshaking { TlsError::CLOSED } else { TlsError::BROKEN })?;
        let mut rest = piece.get(..count).unwrap_or_default();
        loop {
            self.connection.read_tls(&mut rest).map_err(|_| TlsError::PROTOCOL)?;
            self.connection.process_new_packets().map_err(|error| reason(&error, first))?;
            if rest.is_empty() {
                return Ok(count);
            }
        }
    }

    /// Sends what is to go out. May be dropped and called again.
    async fn send(&mut self) -> Result<(), TlsError> {
        loop {
            while let Some(rest) = self.outgoing.get(self.sent..).filter(|rest| !rest.is_empty()) {
                match self.stream.write(rest).await {
                    Ok(count) if count > 0 => self.sent += count,
                    _ if self.connection.is_handshaking() => return Err(TlsError::CLOSED),
                    _ => return Err(TlsError::BROKEN),
                }
            }
            self.outgoing.clear();
            self.sent = 0;
            if !self.connection.wants_write() {
                return self.stream.flush().await.map_err(|_| TlsError::BROKEN);
            }
            self.connection.write_tls(&mut self.outgoing).map_err(|_| TlsError::PROTOCOL)?;
        }
    }
}

impl<S> ErrorType for Session<S> {
    type Error = TlsError;
}

impl<S: Read + Write> Read for Session<S> {
    async fn read(&mut self, buf: &mut [u8]) -> Result<usize, TlsError> {
        loop {
            match self.connection.reader().read(buf) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // The end of a stream that was not said to be one may be anybody's.
                Err(_) => return Err(TlsError::BROKEN),
                Ok(count) => return Ok(count),
            }
            self.send().await?;
            self.receive(false).await?;
        }
    }
}

impl<S: Read + Write> Write for Session<S> {
    async fn write(&mut self, buf: &[u8]) -> Result<usize, TlsError> {
        self.send().await?;
        let count = self.connection.writer().write(buf).map_err(|_| TlsError::PROTOCOL)?;
        self.send().await?;
        Ok(count)
    }

    async fn flush(&mut self) -> Result<(), TlsError> {
        self.send().await
    }
}

impl Tls for HostTls {
    type Stream<'t, S: Read + Write + 't> = Session<S>;

    fn is_ready(&self) -> bool {
        self.trust.is_some()
    }

    fn report(&self) -> TlsReport<&str> {
        let is_timeless = self.is_timeless.load(Ordering::Relaxed);
        let dates = if is_timeless { Dates::ClockUnknown } else { Dates::Checked };
        TlsReport { trusts: self.cas.as_str(), dates }
    }

    async fn open<'t, S: Read + Write + 't>(
        &'t self,
        stream: S,
        server: &str,
    ) -> Result<Session<S>, TlsError> {
        let trust = self.trust.as_ref().ok_or(TlsError::NOT_THERE)?;
        let config = trust.client_config().map_err(|_| TlsError::NOT_THERE)?;
        let name = ServerName::try_from(server.to_owned()).map_err(|_| TlsError::WRONG_HOST)?;
        let connection = ClientConnection::new(config, name).map_err(|error| reason(&error, false))?;
        let session = Session::open(stream, connection).await;
        self.is_timeless.store(false, Ordering::Relaxed);
        session
    }
}

/// The failure as the agent tells it; `first` says that it is about the first that a server said.
fn reason(error: &rustls::Error, first: bool) -> TlsError {
    match Reason::of(error, first) {
        Reason::UnknownCa => TlsError::UNKNOWN_CA,
        Reason::BadCertificate => TlsError::BAD_CERTIFICATE,
        Reason::WrongHost => TlsError::WRONG_HOST,
        Reason::Expired => TlsError::EXPIRED,
        Reason::NotYetValid => TlsError::NOT_YET_VALID,
        Reason::NothingInCommon => TlsError::NOTHING_IN_COMMON,
        Reason::Closed => TlsError::CLOSED,
        Reason::ClientRefused => TlsError::CLIENT_REFUSED,
        Reason::NotTls => TlsError::NOT_TLS,
        _ => TlsError::PROTOCOL,
    }
}
