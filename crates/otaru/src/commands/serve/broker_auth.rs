//! Options for a broker of one's own that asks the server who may do what there.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::bail;
use otaru_broker::client::{BrokerUrl, Login, Secret};
use otaru_server::config::{BrokerAuthConfig, BrokerManagement};
use otaru_tls::Trust;

use crate::{in_clear, options};

/// Characters of the shortest secret of a broker.
const SHORTEST: usize = 16;

/// Options for a broker that asks.
#[derive(clap::Args)]
pub(super) struct BrokerAuthArgs {
    /// Answer the broker of --mqtt here when it asks who may connect, publish and subscribe, such as 127.0.0.1:8090; docs/brokers.md has
    /// the settings of brokers. Plain HTTP on this machine, TLS elsewhere
    #[arg(long, value_name = "ADDR:PORT", requires = "mqtt", help_heading = "Broker of your own")]
    broker_auth_listen: Option<SocketAddr>,
    /// A file whose first line is the secret that the broker sends: as a bearer's, or as `secret` in the query
    #[arg(long, value_name = "FILE", requires = "broker_auth_listen", help_heading = "Broker of your own")]
    broker_auth_secret_file: Option<PathBuf>,
    /// PEM file of the CA of the certificate that the broker shows; there is TLS everywhere then
    #[arg(long, value_name = "CA.pem", requires = "broker_auth_listen", help_heading = "Broker of your own")]
    broker_auth_ca: Option<PathBuf>,
    /// End connections of credentials that end by RabbitMQ's management here, such as http://127.0.0.1:15672; its CAs are those of --mqtt-ca
    #[arg(long, value_name = "URL", requires_all = ["broker_auth_listen", "broker_management_login_file"], help_heading = "Broker of your own")]
    broker_management: Option<String>,
    /// A file whose first line is `USER:PASSWORD` of an administrator there
    #[arg(long, value_name = "FILE", requires = "broker_management", help_heading = "Broker of your own")]
    broker_management_login_file: Option<PathBuf>,
}

impl BrokerAuthArgs {
    /// Whether a broker is to ask.
    pub(super) fn is_wanted(&self) -> bool {
        self.broker_auth_listen.is_some()
    }

    /// Returns what they say, for this broker.
    pub(super) fn config(self, broker: &BrokerUrl) -> anyhow::Result<Option<BrokerAuthConfig>> {
        let Some(listen) = self.broker_auth_listen else { return Ok(None) };
        let secret = self.broker_auth_secret_file.as_deref().map(secret).transpose()?;
        let management = match self.broker_management.zip(self.broker_management_login_file) {
            Some((url, file)) => Some(management(&url, &file, broker.trust.clone())?),
            None => None,
        };
        Ok(Some(BrokerAuthConfig { listen, secret, ca: self.broker_auth_ca, management }))
    }
}

fn secret(path: &Path) -> anyhow::Result<Secret> {
    let secret = options::first_line(path)?;
    if secret.expose().len() < SHORTEST {
        let path = path.display();
        bail!(
            "the secret in {path} is short: at least {SHORTEST} characters, such as `openssl rand -hex 32` makes"
        );
    }
    Ok(secret)
}

fn management(url: &str, file: &Path, trust: Trust) -> anyhow::Result<BrokerManagement> {
    let url = url.strip_suffix('/').unwrap_or(url);
    if !is_url(url) {
        bail!("--broker-management is http://HOST[:PORT][/PATH], or the same with https://, without a login");
    }
    let Some((username, password)) = options::first_line(file)?.expose().split_once(':').map(owned) else {
        bail!("the first line of {} is USER:PASSWORD", file.display());
    };
    if let Some(warning) = in_clear::management_password(url) {
        log::warn!("{warning}");
    }
    Ok(BrokerManagement {
        url: url.to_owned(),
        login: Login { username, password: Secret::new(password) },
        trust,
    })
}

fn owned((name, password): (&str, &str)) -> (String, String) {
    (name.to_owned(), password.to_owned())
}

fn is_url(url: &str) -> bool {
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/:[]".contains(&byte);
    rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/') && rest.bytes().all(plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_management_is_a_url_without_a_login() {
        for good in ["http://127.0.0.1:15672", "https://rabbit.lan/mgmt", "http://[::1]:15672"] {
            assert!(is_url(good), "{good}");
        }
        for bad in
            ["", "rabbit:15672", "http://", "http:///x", "http://a:b@rabbit", "http://rabbit/?x", "mqtt://x"]
        {
            assert!(!is_url(bad), "{bad}");
        }
    }
}
