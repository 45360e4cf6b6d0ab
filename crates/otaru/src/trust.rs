//! Whom this program trusts over TLS, and the certificate that it shows: options of every command.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use anyhow::Context as _;
use otaru_tls::Trust;
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig};

/// Trust that this run was told.
static RUN: OnceLock<Run> = OnceLock::new();

/// Whom a run trusts.
#[derive(Default)]
struct Run {
    trust: Trust,
    /// File of the CAs, if one was named.
    ca: Option<PathBuf>,
    /// Files of the certificate and the key to show.
    identity: Option<(PathBuf, PathBuf)>,
}

/// Whom to trust over TLS.
#[derive(clap::Args)]
pub(crate) struct TrustArgs {
    /// PEM file of the CAs that servers and brokers may be of, instead of the system's (or those in SSL_CERT_FILE); a certificate that a
    /// broker has made itself may be one
    #[arg(
        long,
        global = true,
        value_name = "PEM",
        env = "OTARU_CA",
        help_heading = "TLS",
        hide_short_help = true
    )]
    ca: Option<PathBuf>,
    /// PEM file of the certificate to show to a broker or server that asks, with those up to its CA
    #[arg(
        long,
        global = true,
        value_name = "PEM",
        env = "OTARU_CLIENT_CERT",
        help_heading = "TLS",
        hide_short_help = true
    )]
    client_cert: Option<PathBuf>,
    /// PEM file of that certificate's key, where it is not in the same file
    #[arg(
        long,
        global = true,
        value_name = "PEM",
        env = "OTARU_CLIENT_KEY",
        requires = "client_cert",
        help_heading = "TLS",
        hide_short_help = true
    )]
    client_key: Option<PathBuf>,
}

impl TrustArgs {
    /// Notes whom this run trusts.
    ///
    /// # Errors
    /// Returns an error if a file cannot be read or used.
    pub(crate) fn note(&self) -> anyhow::Result<()> {
        let key = self.client_key.as_ref().or(self.client_cert.as_ref());
        let identity = self.client_cert.as_deref().zip(key.map(PathBuf::as_path));
        let trust = read(Trust::default(), self.ca.as_deref(), identity)?;
        RUN.get_or_init(|| Run {
            trust,
            ca: self.ca.clone(),
            identity: self.client_cert.clone().zip(key.cloned()),
        });
        Ok(())
    }
}

/// Whether this run shows a certificate of its own.
pub(crate) fn has_identity() -> bool {
    RUN.get().is_some_and(|run| run.identity.is_some())
}

/// The trust of this run.
pub(crate) fn of_this_run() -> Trust {
    RUN.get().map(|run| run.trust.clone()).unwrap_or_default()
}

/// File of the CAs that this run was told to trust, from the root on, so that it can be kept.
///
/// # Errors
/// Returns an error if the current folder is not known.
pub(crate) fn ca_file() -> anyhow::Result<Option<PathBuf>> {
    let ca = RUN.get().and_then(|run| run.ca.as_deref());
    Ok(ca.map(std::path::absolute).transpose()?)
}

/// Reads the CAs of a file, if one is given, and certificate and key to show; what is not given is as in `usual`.
///
/// # Errors
/// Returns an error if a file cannot be read or used.
pub(crate) fn read(
    usual: Trust,
    ca: Option<&Path>,
    identity: Option<(&Path, &Path)>,
) -> anyhow::Result<Trust> {
    let trust = match ca {
        Some(ca) => Trust::of_pem(&file(ca)?).with_context(|| format!("cannot use {}", ca.display()))?,
        None => usual,
    };
    match identity {
        None => Ok(trust),
        Some((certificate, key)) => trust
            .with_identity(&file(certificate)?, &file(key)?)
            .with_context(|| format!("cannot use {} with the key {}", certificate.display(), key.display())),
    }
}

fn file(path: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read the file {}", path.display()))
}

/// TLS for requests to this URL. Of one that is not `https://` nothing is read. `kept` is the file of CAs that was kept for it; what this run
/// was told goes before.
///
/// # Errors
/// Returns an error if the file cannot be used, or if the system has no root certificates.
pub(crate) fn for_requests(url: &str, kept: Option<&Path>) -> anyhow::Result<TlsConfig> {
    let config = TlsConfig::builder();
    if !url.starts_with("https://") {
        return Ok(config.build());
    }
    let trust = match (RUN.get(), kept) {
        (Some(Run { ca: None, identity, .. }), Some(ca)) => {
            let identity = identity.as_ref().map(|(certificate, key)| (certificate.as_path(), key.as_path()));
            read(Trust::default(), Some(ca), identity)
                .context("`otaru login` was told to trust it: log in again")?
        }
        _ => of_this_run(),
    };
    let own = |der: &[u8]| Certificate::from_der(der).to_owned();
    let roots: Vec<_> = trust.roots()?.iter().map(|ca| own(ca)).collect();
    let identity = match trust.identity() {
        None => None,
        Some((chain, key)) => {
            let chain: Vec<_> = chain.iter().map(|certificate| own(certificate)).collect();
            Some(ClientCert::new_with_certs(&chain, PrivateKey::from_pem(key)?))
        }
    };
    Ok(config.root_certs(RootCerts::Specific(Arc::new(roots))).client_cert(identity).build())
}
