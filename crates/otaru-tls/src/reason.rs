//! Reasons that there is no session, in plain words.

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage};

/// Reason that there is no TLS session with a server, or no longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// No path from the server's certificate to a CA that is trusted.
    #[error("its certificate is of no CA that is trusted here; --ca FILE names one")]
    UnknownCa,
    /// A certificate that may not be used as it is.
    #[error("a certificate of it may not be used for this, is too weak, or is not its own")]
    BadCertificate,
    /// A certificate for another host.
    #[error("its certificate is for another host than the one asked for")]
    WrongHost,
    /// A certificate that has expired.
    #[error("a certificate of it has expired")]
    Expired,
    /// A certificate of the future.
    #[error("a certificate of it is not valid yet; is the clock of this machine right?")]
    NotYetValid,
    /// No version, cipher, curve or kind of signature in common.
    #[error("there is no TLS version, cipher or curve in common; 1.2 and 1.3 are spoken here")]
    NothingInCommon,
    /// The connection ended during the handshake.
    #[error("it closed during the TLS handshake; does it speak TLS at this port?")]
    Closed,
    /// The server does not take the certificate it was shown, or wants one.
    #[error("it refuses the client certificate, or wants one")]
    ClientRefused,
    /// Something else than TLS.
    #[error("it does not speak TLS at this port")]
    NotTls,
    /// Something that TLS does not allow.
    #[error("it breaks TLS")]
    Protocol,
}

impl Reason {
    /// Reads an error of rustls; `first` says that it is about the first that the server said.
    pub fn of(error: &Error, first: bool) -> Self {
        match error {
            Error::InvalidCertificate(error) => Self::of_certificate(error),
            Error::NoCertificatesPresented => Self::BadCertificate,
            Error::PeerIncompatible(_) => Self::NothingInCommon,
            Error::AlertReceived(alert) => Self::of_alert(*alert),
            Error::InvalidMessage(
                InvalidMessage::InvalidContentType
                | InvalidMessage::UnknownProtocolVersion
                | InvalidMessage::InvalidEmptyPayload,
            ) if first => Self::NotTls,
            _ => Self::Protocol,
        }
    }

    /// Reads an error of a stream; `None` where it is none of TLS.
    pub fn of_io(error: &std::io::Error, first: bool) -> Option<Self> {
        let inner = error.get_ref()?.downcast_ref::<Error>()?;
        Some(Self::of(inner, first))
    }

    fn of_certificate(error: &CertificateError) -> Self {
        match error {
            // Somebody else's CA may have the name of one that is trusted.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => Self::UnknownCa,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                Self::WrongHost
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Self::NotYetValid,
            _ => Self::BadCertificate,
        }
    }

    fn of_alert(alert: AlertDescription) -> Self {
        match alert {
            AlertDescription::HandshakeFailure
            | AlertDescription::ProtocolVersion
            | AlertDescription::InsufficientSecurity
            | AlertDescription::NoApplicationProtocol => Self::NothingInCommon,
            AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied => Self::ClientRefused,
            AlertDescription::UnrecognisedName => Self::WrongHost,
            _ => Self::Closed,
        }
    }
}
