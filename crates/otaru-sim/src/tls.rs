//! TLS of a virtual device, by rustls: what mbed TLS is on a chip.

use std::io::{self, Read as _, Write as _};
use std::sync::Arc;

use embedded_io_async::{ErrorType, Read, Write};
use otaru_device::{Tls, TlsError};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, ClientConnection, Connection, DigitallySignedStruct,
    Error, InvalidMessage, PeerMisbehaved, RootCertStore, SignatureScheme,
};

/// Bytes that are read from the network at once.
const PIECE: usize = 4096;

/// Certificates and keys of a device. Never printed but for their number.
#[derive(Default)]
pub struct Trust {
    cas: Vec<CertificateDer<'static>>,
    identity: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
}

/// Reason that certificates cannot be used.
#[derive(Debug)]
pub enum TrustError {
    /// Not PEM, or none of what is looked for in it.
    Pem(rustls::pki_types::pem::Error),
    /// There is no certificate in it.
    Empty,
    /// A certificate or key that TLS does not take.
    Tls(Error),
    /// A list of CAs that nothing can be verified with.
    Verifier(rustls::client::VerifierBuilderError),
}

impl std::fmt::Display for TrustError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Pem(error) => write!(f, "it is no PEM, or cannot be read: {error}"),
            Self::Empty => f.write_str("there is no certificate in it (-----BEGIN CERTIFICATE-----)"),
            Self::Tls(error) => write!(f, "a certificate or key in it cannot be used: {error}"),
            Self::Verifier(error) => write!(f, "nothing can be verified with it: {error}"),
        }
    }
}

impl std::error::Error for TrustError {}

impl From<rustls::pki_types::pem::Error> for TrustError {
    fn from(error: rustls::pki_types::pem::Error) -> Self {
        Self::Pem(error)
    }
}

impl From<Error> for TrustError {
    fn from(error: Error) -> Self {
        Self::Tls(error)
    }
}

impl std::fmt::Debug for Trust {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { cas, identity } = self;
        f.debug_struct("Trust").field("cas", &cas.len()).field("identity", &identity.is_some()).finish()
    }
}

impl Trust {
    /// Adds the CAs of a PEM text. A certificate that a server has made itself may be one.
    ///
    /// # Errors
    /// Returns an error if there is none in it, or one that is damaged.
    pub fn add_pem(&mut self, pem: &[u8]) -> Result<(), TrustError> {
        let before = self.cas.len();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            self.cas.push(certificate?);
        }
        if self.cas.len() == before { Err(TrustError::Empty) } else { Ok(()) }
    }

    /// Sets the certificate, with those between it and its CA, and the key that the device shows to a server that asks.
    ///
    /// # Errors
    /// Returns an error if there is none in it, or one that is damaged.
    pub fn set_identity(&mut self, certificate: &[u8], key: &[u8]) -> Result<(), TrustError> {
        let chain = CertificateDer::pem_slice_iter(certificate).collect::<Result<Vec<_>, _>>()?;
        if chain.is_empty() {
            return Err(TrustError::Empty);
        }
        self.identity = Some((chain, PrivateKeyDer::from_pem_slice(key)?));
        Ok(())
    }
}

/// TLS over the streams of a virtual device; clones share it. The default is none.
#[derive(Debug, Clone, Default)]
pub struct HostTls(Option<Arc<ClientConfig>>);

impl HostTls {
    /// TLS that trusts so.
    ///
    /// # Errors
    /// Returns an error if there is no CA, or one that cannot be used.
    pub fn new(trust: Trust) -> Result<Self, TrustError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = Arc::new(Verifier::new(trust.cas, &provider)?);
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match trust.identity {
            Some((chain, key)) => builder.with_client_auth_cert(chain, key)?,
            None => builder.with_no_client_auth(),
        };
        // As on a chip: each session begins anew.
        config.resumption = rustls::client::Resumption::disabled();
        Ok(Self(Some(Arc::new(config))))
    }
}

/// Verifies as WebPKI does, but takes a certificate that a server has made itself where it is trusted as it is, whatever it says that it
/// may be used for; mbed TLS does the same.
#[derive(Debug)]
struct Verifier {
    cas: Vec<CertificateDer<'static>>,
    paths: Arc<WebPkiServerVerifier>,
}

impl Verifier {
    fn new(cas: Vec<CertificateDer<'static>>, provider: &Arc<CryptoProvider>) -> Result<Self, TrustError> {
        let mut roots = RootCertStore::empty();
        for ca in &cas {
            roots.add(ca.clone())?;
        }
        let builder = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
        Ok(Self { cas, paths: builder.build().map_err(TrustError::Verifier)? })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.paths.verify_server_cert(end_entity, intermediates, server, ocsp, now);
        match verified {
            // Its dates were looked at before its use.
            Err(Error::InvalidCertificate(error)) if is_ca(&error) && self.cas.contains(end_entity) => {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server)?;
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.paths.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.paths.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.paths.supported_verify_schemes()
    }
}

/// Whether a certificate was refused because it is a CA's.
fn is_ca(error: &CertificateError) -> bool {
    let CertificateError::Other(rustls::OtherError(error)) = error else { return false };
    matches!(error.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity))
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
        self.0.is_some()
    }

    async fn open<'t, S: Read + Write + 't>(
        &'t self,
        stream: S,
        server: &str,
    ) -> Result<Session<S>, TlsError> {
        let config = self.0.as_ref().ok_or(TlsError::NOT_THERE)?;
        let name = ServerName::try_from(server.to_owned()).map_err(|_| TlsError::WRONG_HOST)?;
        let connection =
            ClientConnection::new(Arc::clone(config), name).map_err(|error| reason(&error, false))?;
        Session::open(stream, connection).await
    }
}

/// The failure as the agent tells it; `first` says that it is about the first that a server said.
fn reason(error: &Error, first: bool) -> TlsError {
    match error {
        Error::InvalidCertificate(error) => certificate_reason(error),
        Error::NoCertificatesPresented => TlsError::BAD_CERTIFICATE,
        Error::PeerIncompatible(_) => TlsError::NOTHING_IN_COMMON,
        Error::AlertReceived(alert) => alert_reason(*alert),
        Error::InvalidMessage(
            InvalidMessage::InvalidContentType
            | InvalidMessage::UnknownProtocolVersion
            | InvalidMessage::MessageTooLarge,
        ) if first => TlsError::NOT_TLS,
        Error::PeerMisbehaved(PeerMisbehaved::SignedKxWithWrongAlgorithm) => TlsError::NOTHING_IN_COMMON,
        _ => TlsError::PROTOCOL,
    }
}

fn certificate_reason(error: &CertificateError) -> TlsError {
    match error {
        CertificateError::UnknownIssuer => TlsError::UNKNOWN_CA,
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            TlsError::WRONG_HOST
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => TlsError::EXPIRED,
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            TlsError::NOT_YET_VALID
        }
        _ => TlsError::BAD_CERTIFICATE,
    }
}

fn alert_reason(alert: AlertDescription) -> TlsError {
    match alert {
        AlertDescription::HandshakeFailure
        | AlertDescription::ProtocolVersion
        | AlertDescription::InsufficientSecurity
        | AlertDescription::NoApplicationProtocol => TlsError::NOTHING_IN_COMMON,
        AlertDescription::CertificateRequired
        | AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateRevoked
        | AlertDescription::CertificateExpired
        | AlertDescription::CertificateUnknown
        | AlertDescription::UnknownCA
        | AlertDescription::AccessDenied => TlsError::CLIENT_REFUSED,
        AlertDescription::UnrecognisedName => TlsError::WRONG_HOST,
        _ => TlsError::CLOSED,
    }
}
