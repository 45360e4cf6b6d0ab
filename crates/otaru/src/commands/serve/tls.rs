//! Options of TLS, and lines about it.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::bail;
use clap::builder::ArgPredicate;
use otaru_server::config::{CertificateSource, PlainListeners, TlsConfig};
use otaru_server::server::Server;
use otaru_server::tls::PairFiles;
use otaru_server::tls::acme::Domain;
use otaru_server::tls::own::OwnAuthority;

use super::acme::AcmeArgs;
use crate::options::is_given;

/// Options that make a server speak TLS.
const NEEDED: &str = "--tls-cert with --tls-key, --acme, or --tls-dev";

/// Whether browsers are told to come back over TLS only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Hsts {
    On,
    Off,
}

/// Options of TLS.
#[derive(clap::Args)]
pub(super) struct TlsArgs {
    /// Speak TLS with this certificate, followed by those that signed it; read again when the file changes, or at once on SIGHUP
    #[arg(long, value_name = "CERT.pem", requires = "tls_key", help_heading = "TLS")]
    tls_cert: Option<PathBuf>,
    /// Private key of --tls-cert
    #[arg(long, value_name = "KEY.pem", requires = "tls_cert", help_heading = "TLS")]
    tls_key: Option<PathBuf>,
    /// Speak TLS with a certificate that the server makes, on a network of one's own: people and devices are to trust its
    /// authority, which is kept in the data folder
    #[arg(long, conflicts_with = "tls_cert", help_heading = "TLS")]
    tls_dev: bool,
    #[command(flatten)]
    acme: AcmeArgs,
    /// Address of dashboard, API and downloads over TLS; with --acme, 0.0.0.0:443
    #[arg(
        long,
        value_name = "ADDR:PORT",
        default_value = "0.0.0.0:8443",
        default_value_if("acme", ArgPredicate::IsPresent, "0.0.0.0:443"),
        help_heading = "TLS"
    )]
    https: SocketAddr,
    /// Address of the embedded broker over TLS
    #[arg(long, value_name = "ADDR:PORT", default_value = "0.0.0.0:8883", help_heading = "TLS")]
    mqtts_listen: SocketAddr,
    /// Tell browsers that come over TLS to use nothing else at this host for a year (HSTS), whatever the port; with --acme they are told
    /// unless it is `--hsts=off`
    #[arg(long, value_name = "WHETHER", num_args = 0..=1, require_equals = true, default_missing_value = "on", help_heading = "TLS")]
    hsts: Option<Hsts>,
    /// Let devices log in at the embedded broker with certificates that this authority signed, or these if there are several (`otaru
    /// device-cert`); read again when the file changes, for connections from then on; emptied, it trusts nobody
    #[arg(long, value_name = "CA.pem", help_heading = "TLS")]
    device_ca: Option<PathBuf>,
}

impl TlsArgs {
    /// Returns the beginning of links, where nothing else is said.
    pub(super) fn public_url(&self) -> Option<String> {
        self.acme.public_url()
    }

    /// Returns what they say, where these plain listeners are wanted.
    pub(super) fn config(self, plain: PlainListeners) -> anyhow::Result<Option<TlsConfig>> {
        let hsts = self.hsts.map_or(self.acme.is_wanted(), |hsts| hsts == Hsts::On);
        let certificate = match (self.tls_cert, self.tls_key, self.tls_dev) {
            (Some(certificate), Some(key), _) => CertificateSource::Files(PairFiles { certificate, key }),
            (_, _, true) => CertificateSource::Own,
            _ if self.acme.is_wanted() => CertificateSource::Acme(self.acme.config()?),
            _ if is_given("https")
                || is_given("mqtts_listen")
                || self.hsts.is_some()
                || self.device_ca.is_some() =>
            {
                bail!("--https, --mqtts-listen, --device-ca and --hsts need a certificate: {NEEDED}")
            }
            _ if plain != PlainListeners::default() => {
                bail!("--http off and --mqtt-listen off are for servers that speak TLS: {NEEDED}")
            }
            _ => return Ok(None),
        };
        let Self { https, mqtts_listen: mqtts, device_ca, .. } = self;
        Ok(Some(TlsConfig { certificate, https, mqtts, plain, hsts, device_ca }))
    }
}

/// Lines about what is to be trusted, and about listeners without TLS beside those with it.
pub(super) fn lines(server: &Server) -> Vec<String> {
    let config = &server.app().config;
    let mut lines = Vec::new();
    if let Some(file) = server.authority_file() {
        lines.push(format!("Devices and browsers are to trust {}; it is at /ca.pem, too.", file.display()));
        if let Ok(fingerprint) = OwnAuthority::fingerprint(file) {
            lines.push(format!("  SHA-256 {fingerprint}"));
        }
    }
    if let Some(CertificateSource::Acme(acme)) = config.tls.as_ref().map(|tls| &tls.certificate) {
        lines.push(format!("Certificate from {}, to whose terms --acme agrees.", acme.directory));
        if let Some(at) = server.https() {
            lines.push(format!(
                "  Port 443 has to lead to {at}, from the Internet, at: {}",
                names(&acme.domains)
            ));
        }
    }
    if config.speaks_plain_http() {
        lines.push(format!("Without TLS: http://{}    --http off ends that", server.http()));
    }
    if config.speaks_plain_mqtt() && server.mqtts().is_some() {
        lines.push(format!("Without TLS: {}    --mqtt-listen off ends that", server.mqtt_url()));
    }
    lines
}

fn names(domains: &[Domain]) -> String {
    domains.iter().map(Domain::as_str).collect::<Vec<_>>().join(" ")
}
