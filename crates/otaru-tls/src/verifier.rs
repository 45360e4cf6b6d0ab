//! Verification of a server's certificate, for clients that trust CAs of their own.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme};
use x509_parser::prelude::{FromDer as _, X509Certificate, X509Version};

use crate::error::TrustError;

/// Verifies as WebPKI does, but looks at the key usage of authorities, and takes a certificate that a server has made itself where it is
/// trusted as it is, whatever it says that it may be used for; mbed TLS does the same.
#[derive(Debug)]
pub(crate) struct Verifier {
    cas: Vec<CertificateDer<'static>>,
    /// Paths to all that is trusted.
    paths: Arc<WebPkiServerVerifier>,
    /// Paths to what is an authority; WebPKI takes everything that is trusted for one. None where there is none.
    authorities: Option<Arc<WebPkiServerVerifier>>,
}

impl Verifier {
    /// Trusts these.
    pub(crate) fn new(
        cas: Vec<CertificateDer<'static>>,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, TrustError> {
        let paths = paths_to(&cas, provider)?;
        let authorities: Vec<_> = cas.iter().filter(|ca| is_authority(ca)).cloned().collect();
        let authorities = match authorities.len() {
            0 => None,
            count if count == cas.len() => Some(Arc::clone(&paths)),
            _ => Some(paths_to(&authorities, provider)?),
        };
        Ok(Self { cas, paths, authorities })
    }
}

/// Returns a verifier by paths to these.
fn paths_to(
    cas: &[CertificateDer<'static>],
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<WebPkiServerVerifier>, TrustError> {
    let mut roots = RootCertStore::empty();
    for ca in cas {
        roots.add(ca.clone())?;
    }
    let builder = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    Ok(builder.build()?)
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
        let signers: Vec<_> = intermediates.iter().filter(|one| may_sign(one)).cloned().collect();
        let is_trusted_itself = self.cas.contains(end_entity);
        let paths = if is_trusted_itself { Some(&self.paths) } else { self.authorities.as_ref() };
        let paths = paths.ok_or(CertificateError::UnknownIssuer)?;
        let verified = paths.verify_server_cert(end_entity, &signers, server, ocsp, now);
        match verified {
            // Somebody else's CA may have the name of one that is trusted.
            Err(Error::InvalidCertificate(CertificateError::BadSignature)) => {
                Err(CertificateError::UnknownIssuer.into())
            }
            // Its dates were looked at before its use.
            Err(Error::InvalidCertificate(error)) if is_ca(&error) && is_trusted_itself => {
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
        self.paths.verify_tls12_signature(message, certificate, signed).map_err(not_its_own)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.paths.verify_tls13_signature(message, certificate, signed).map_err(not_its_own)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.paths.supported_verify_schemes()
    }
}

/// Tells a server that has not the key of its certificate from a certificate whose signature is wrong.
fn not_its_own(error: Error) -> Error {
    match error {
        Error::InvalidCertificate(CertificateError::BadSignature) => {
            CertificateError::ApplicationVerificationFailure.into()
        }
        other => other,
    }
}

/// Whether a certificate may sign others as far as its key usage says (RFC 5280, 4.2.1.3), which WebPKI does not look at. One that cannot
/// be read is WebPKI's to refuse.
fn may_sign(certificate: &CertificateDer<'_>) -> bool {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else { return true };
    let Ok(usage) = certificate.key_usage() else { return false };
    usage.is_none_or(|usage| usage.value.key_cert_sign())
}

/// Whether a certificate is an authority's: it says so and may sign, or is of a version that cannot say so (RFC 5280, 6.1.4).
fn is_authority(der: &CertificateDer<'_>) -> bool {
    let Ok((_, certificate)) = X509Certificate::from_der(der) else { return true };
    certificate.version() != X509Version::V3 || certificate.is_ca() && may_sign(der)
}

/// Whether a certificate was refused because it is a CA's.
fn is_ca(error: &CertificateError) -> bool {
    let CertificateError::Other(OtherError(error)) = error else { return false };
    matches!(error.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity))
}
