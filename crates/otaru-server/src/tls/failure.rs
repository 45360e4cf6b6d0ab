//! Handshakes that fail, in words that say what to do.

use std::fmt;
use std::io;

use rustls::{AlertDescription, Error};

use super::opening::TooLong;

/// Reason that a handshake failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// The peer went or was silent, as scanners and health checks do: nothing to tell people.
    Gone,
    /// A fault, in words.
    Fault(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone => f.write_str("the peer went before the handshake was done"),
            Self::Fault(words) => f.write_str(words),
        }
    }
}

impl From<&io::Error> for Failure {
    fn from(error: &io::Error) -> Self {
        let Some(inner) = error.get_ref() else { return Self::Gone };
        if let Some(too_long) = inner.downcast_ref::<TooLong>() {
            return Self::Fault(too_long.to_string());
        }
        match inner.downcast_ref::<Error>() {
            Some(error) => Self::Fault(words(error)),
            None => Self::Gone,
        }
    }
}

fn words(error: &Error) -> String {
    match error {
        Error::AlertReceived(alert) => alerted(*alert),
        Error::PeerIncompatible(_) | Error::PeerMisbehaved(_) => format!(
            "{error}: TLS 1.2 and 1.3 are spoken here, with ECDHE and AES-GCM or ChaCha20-Poly1305; an older client does not do"
        ),
        Error::InvalidCertificate(why) => {
            format!(
                "the client's certificate is refused ({why:?}): it must be signed by the authority of devices, and not have ended"
            )
        }
        // The library's words for it.
        Error::General(why) if why == "no server certificate chain resolved" => {
            "there is no certificate yet, which other lines tell, or the client looks for the proof of a name (acme-tls/1) that is \
             not being proven, as a stranger may"
                .to_owned()
        }
        Error::NoApplicationProtocol => "the client wants another protocol than HTTP/1.1".to_owned(),
        other => other.to_string(),
    }
}

/// Words for what a client says about our side of it.
fn alerted(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::UnknownCA
        | AlertDescription::BadCertificate
        | AlertDescription::CertificateUnknown => {
            format!(
                "the client does not trust this server's certificate ({alert:?}): give it the authority that signed it, and a \
                 name that the certificate has"
            )
        }
        AlertDescription::CertificateExpired => {
            "the client takes this server's certificate for ended: replace it, or look at the client's clock"
                .to_owned()
        }
        other => format!("the client ended the handshake: {other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_say_what_to_do() {
        let told =
            |error: Error| Failure::from(&io::Error::new(io::ErrorKind::InvalidData, error)).to_string();
        for (error, part) in [
            (Error::AlertReceived(AlertDescription::UnknownCA), "give it the authority"),
            (Error::AlertReceived(AlertDescription::CertificateExpired), "clock"),
            (Error::PeerIncompatible(rustls::PeerIncompatible::Tls12NotOffered), "TLS 1.2 and 1.3"),
            (Error::General("no server certificate chain resolved".to_owned()), "no certificate yet"),
            (Error::General("no server certificate chain resolved".to_owned()), "as a stranger may"),
            (Error::InvalidCertificate(rustls::CertificateError::Expired), "authority of devices"),
        ] {
            assert!(told(error).contains(part), "{part}");
        }
        assert_eq!(Failure::from(&io::ErrorKind::UnexpectedEof.into()), Failure::Gone);
        assert_eq!(
            Failure::from(&io::Error::new(io::ErrorKind::UnexpectedEof, "tls handshake eof")),
            Failure::Gone
        );
    }
}
