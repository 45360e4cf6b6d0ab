//! Where PostgreSQL is, and as whom to log in: `postgres://USER@HOST/DATABASE`.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use otaru_broker::client::Secret;
use otaru_tls::{Trust, TrustError};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, Error, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::error::{described, is_busy};
use crate::db::error::DbError;

/// Longest wait for a login, with everything that belongs to it.
pub(super) const LOGIN: Duration = Duration::from_secs(10);
/// Longest wait for a connection to one of several addresses.
const CONNECT: Duration = Duration::from_secs(5);
/// Longest time that the network may take for what was sent, and pause before it is asked whether the other side is there.
const NETWORK: Duration = Duration::from_secs(10);

/// Pause between two questions whether the other side is there.
const PROBES: Duration = Duration::from_secs(2);

/// Fault in what was said of a database.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// It is no such URL.
    #[error("this is no URL of a database: {0}; write postgres://USER@HOST/DATABASE")]
    Url(String),
    /// A part is missing.
    #[error("the URL of the database has no {0}; write postgres://USER@HOST/DATABASE")]
    Missing(&'static str),
    /// A password would be seen by whoever lists processes.
    #[error(
        "a password in the URL of the database is seen by everybody on this machine; put it into a file (--database-password-file, or PGPASSFILE)"
    )]
    Password,
    /// The database would be spoken to in clear, and not on this machine.
    #[error(
        "the database is on another machine: it is spoken to over TLS; leave sslmode out, or say sslmode=disable if the network is yours alone"
    )]
    SslMode,
    /// What is trusted cannot be used.
    #[error(transparent)]
    Trust(#[from] TrustError),
}

/// Where PostgreSQL is, and as whom to log in. The password is never printed.
#[derive(Clone)]
pub struct PostgresSettings {
    config: Config,
    trust: Trust,
    tls: bool,
}

impl fmt::Debug for PostgresSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PostgresSettings({self})")
    }
}

/// Shows it as a URL, without the password.
impl fmt::Display for PostgresSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let user = self.config.get_user().unwrap_or_default();
        let ports = self.config.get_ports();
        // One port may be that of all hosts; the usual one is not told.
        let port = |at: usize| ports.get(at).or(ports.first()).filter(|port| **port != PORT);
        let hosts = self.config.get_hosts().iter().enumerate().map(|(at, host)| match port(at) {
            Some(port) => format!("{}:{port}", shown(host)),
            None => shown(host),
        });
        let hosts = hosts.collect::<Vec<_>>().join(",");
        write!(f, "postgres://{user}@{hosts}/{}", self.config.get_dbname().unwrap_or_default())
    }
}

/// PostgreSQL's usual port.
const PORT: u16 = 5432;

fn shown(host: &Host) -> String {
    match host {
        Host::Tcp(name) => name.clone(),
        Host::Unix(path) => path.display().to_string(),
    }
}

impl PostgresSettings {
    /// Reads a URL. `trust` says whose certificate the database may show; TLS is spoken wherever it is not on this machine.
    ///
    /// # Errors
    /// When it is no URL of a database, or has a password in it.
    pub fn parse(url: &str, trust: Trust) -> Result<Self, SettingsError> {
        if !["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme)) {
            return Err(SettingsError::Url("it does not begin with postgres://".into()));
        }
        let mut config: Config = url.parse().map_err(|error: Error| {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            SettingsError::Url(cause.unwrap_or_else(|| error.to_string()))
        })?;
        if config.get_password().is_some() {
            return Err(SettingsError::Password);
        }
        for (part, missing) in [
            ("user", config.get_user().is_none()),
            ("host", config.get_hosts().is_empty()),
            ("database", config.get_dbname().is_none()),
        ] {
            if missing {
                return Err(SettingsError::Missing(part));
            }
        }
        let is_said = url.contains("sslmode=");
        let local = config.get_hosts().iter().all(is_local)
            && config.get_hostaddrs().iter().all(|ip| ip.is_loopback());
        let tls = match config.get_ssl_mode() {
            SslMode::Disable => false,
            SslMode::Prefer if is_said && !local => return Err(SettingsError::SslMode),
            SslMode::Prefer => !local,
            _ => true,
        };
        if tls {
            config.ssl_mode(SslMode::Require);
            trust.client_config()?;
        }
        config
            .application_name("otaru")
            .connect_timeout(CONNECT)
            .tcp_user_timeout(NETWORK)
            .keepalives_idle(NETWORK)
            .keepalives_interval(PROBES)
            .keepalives_retries(3);
        Ok(Self { config, trust, tls })
    }

    /// Logs in with this password.
    #[must_use]
    pub fn with_password(mut self, password: &Secret) -> Self {
        self.config.password(password.expose());
        self
    }

    /// Returns host, port, database and user, as a file of passwords names them.
    pub fn login(&self) -> (String, u16, String, String) {
        let host = self.config.get_hosts().first().map(shown).unwrap_or_default();
        let port = self.config.get_ports().first().copied().unwrap_or(PORT);
        let part = |part: Option<&str>| part.unwrap_or_default().to_owned();
        (host, port, part(self.config.get_dbname()), part(self.config.get_user()))
    }

    /// Returns the settings of another database on the same server.
    #[must_use]
    pub fn with_database(mut self, name: &str) -> Self {
        self.config.dbname(name);
        self
    }

    /// Reaches PostgreSQL and logs in. What drives the client ends with it.
    pub(super) async fn reach(&self) -> Result<(Client, JoinHandle<Result<(), Error>>), DbError> {
        let reached = match self.tls {
            true => {
                let config =
                    self.trust.client_config().map_err(|error| DbError::Unavailable(error.to_string()))?;
                let connecting = self.config.connect(MakeRustlsConnect::new((*config).clone()));
                connecting.await.map(|(client, connection)| (client, tokio::spawn(connection)))
            }
            false => {
                let connecting = self.config.connect(NoTls);
                connecting.await.map(|(client, connection)| (client, tokio::spawn(connection)))
            }
        };
        reached.map_err(|error| self.told(&error))
    }

    /// Asks over a line of its own whether PostgreSQL answers anybody. That it has no session to spare is an answer.
    pub(super) async fn knock(&self) -> Result<(), DbError> {
        let knocking = async {
            let (client, _driven) = self.reach().await?;
            Ok::<_, DbError>(client.simple_query("SELECT 1").await.map(drop)?)
        };
        match timeout(LOGIN, knocking).await {
            Ok(Ok(()) | Err(DbError::Busy(_))) => Ok(()),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(self.silent()),
        }
    }

    /// Returns the error of who waited in vain.
    pub(super) fn silent(&self) -> DbError {
        let (host, port, ..) = self.login();
        DbError::Unavailable(format!("{self} (port {port} of {host}) does not answer"))
    }

    /// Returns the error of a login, with where that was and what to do.
    fn told(&self, error: &Error) -> DbError {
        let why = described(error);
        let remedy = match error.code().map(SqlState::code) {
            Some("3D000") => "; createdb makes it",
            Some("28P01" | "28000") => "; --database-password-file or PGPASSFILE has the password",
            None if why.contains("password missing") => "; --database-password-file or PGPASSFILE has it",
            _ => "",
        };
        let (host, port, ..) = self.login();
        let text = format!("{self} (port {port} of {host}): {why}{remedy}");
        match error.code().is_some_and(is_busy) {
            true => DbError::Busy(text),
            false => DbError::Unavailable(text),
        }
    }
}

fn is_local(host: &Host) -> bool {
    match host {
        Host::Tcp(name) => name == "localhost" || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback()),
        Host::Unix(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<PostgresSettings, SettingsError> {
        PostgresSettings::parse(url, Trust::default())
    }

    #[test]
    fn a_url_names_user_host_and_database() {
        let settings = parse("postgres://otaru@localhost:5433/fleet").unwrap();
        assert_eq!(settings.to_string(), "postgres://otaru@localhost:5433/fleet");
        let two = "postgres://otaru@a:5433,b/fleet";
        assert_eq!(parse(two).unwrap().to_string(), two, "as it was given");
        assert_eq!(parse("postgres://otaru@a/fleet").unwrap().to_string(), "postgres://otaru@a/fleet");
        assert_eq!(settings.login(), ("localhost".into(), 5433, "fleet".into(), "otaru".into()));
        assert!(matches!(parse("postgres://localhost/fleet"), Err(SettingsError::Missing("user"))));
        assert!(matches!(parse("postgres://otaru@localhost"), Err(SettingsError::Missing("database"))));
        assert!(matches!(parse("fleet.db"), Err(SettingsError::Url(_))));
    }

    #[test]
    fn passwords_are_not_in_urls_and_never_shown() {
        assert!(matches!(parse("postgres://otaru:secret@localhost/fleet"), Err(SettingsError::Password)));
        let settings =
            parse("postgres://otaru@localhost/fleet").unwrap().with_password(&Secret::new("secret"));
        assert!(!format!("{settings} {settings:?}").contains("secret"));
    }

    #[test]
    fn another_machine_is_spoken_to_over_tls() {
        let tls = |url: &str| parse(url).map(|settings| settings.tls);
        assert!(!tls("postgres://otaru@127.0.0.1/fleet").unwrap());
        assert!(!tls("postgres://otaru@%2Frun%2Fpostgresql/fleet").unwrap());
        assert!(tls("postgres://otaru@127.0.0.1/fleet?sslmode=require").unwrap());
        assert!(matches!(
            tls("postgres://otaru@db.example/fleet?sslmode=prefer"),
            Err(SettingsError::SslMode)
        ));
        assert!(!tls("postgres://otaru@db.example/fleet?sslmode=disable").unwrap());
    }
}
