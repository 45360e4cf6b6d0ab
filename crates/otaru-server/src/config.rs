//! Configuration of a server.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use crate::artifacts::s3::S3Config;
use crate::db::PostgresSettings;
use crate::devices::bounds::Bounds;
use crate::http::Limits;
use crate::releases::UploadLimits;
use crate::tls::PairFiles;
use crate::tls::acme::AcmeConfig;
use otaru_broker::client::{BrokerUrl, Login, Secret};
use otaru_tls::Trust;

/// Everything that is decided before a server starts.
#[derive(Debug, Clone)]
pub struct Config {
    /// The folder it keeps everything in. One server at a time.
    pub data: PathBuf,
    /// PostgreSQL, where devices, releases and rollouts are kept; without it, in a file of SQLite's in that folder.
    pub database: Option<Box<PostgresSettings>>,
    /// The store of firmware.
    pub artifacts: ArtifactsConfig,
    /// Memory for files that are downloaded, in bytes; usually [`DEFAULT_MEMORY`](crate::artifacts::DEFAULT_MEMORY). Downloads that are
    /// still under way when others need the room hold as much again.
    pub download_memory: u64,
    /// Address of the API and of downloads, in plain HTTP.
    pub http: SocketAddr,
    /// TLS, if it is spoken.
    pub tls: Option<TlsConfig>,
    /// The broker.
    pub mqtt: MqttConfig,
    /// Prefix of the devices' topics.
    pub base: String,
    /// Beginning of URLs for devices and people, such as `http://ota.example.com`; otherwise the address of this machine that
    /// others reach.
    pub public_url: Option<String>,
    /// Proxies whose `Forwarded` and `X-Forwarded-*` headers are believed.
    pub trusted_proxies: Vec<IpAddr>,
    /// Whether devices that are not known yet may come, from loopback and private networks, without a login.
    pub dev: bool,
    /// Whether people on this machine may use the dashboard without a token: for a demonstration, on a server that listens on
    /// loopback.
    pub guests: bool,
    /// A PEM file with the private key that signs releases; without one, firmware is offered as it was uploaded.
    pub signing_key: Option<PathBuf>,
    /// PEM files with more public keys: releases that were signed elsewhere are taken if one of these, or the signing key, signed
    /// them. Without any key, everybody's are.
    pub trusted_keys: Vec<PathBuf>,
    /// Bounds on the number of devices that can register.
    pub device_limits: Bounds,
    /// Limits of uploads.
    pub upload_limits: UploadLimits,
    /// Limits on concurrent HTTP connections and requests.
    pub http_limits: Limits,
    /// Address of the metrics, if they are served.
    pub metrics: Option<SocketAddr>,
    /// The prefix under which Home Assistant looks for devices, if they shall appear there.
    pub home_assistant: Option<String>,
}

/// The store of firmware of a server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ArtifactsConfig {
    /// A folder in the data folder.
    #[default]
    Own,
    /// Another folder.
    Folder(PathBuf),
    /// A bucket, with copies of its files in the data folder.
    S3(Box<S3Config>),
}

/// The broker of a server.
#[derive(Debug, Clone)]
pub enum MqttConfig {
    /// One of its own.
    Embedded {
        /// Listening address.
        listen: SocketAddr,
        /// Connections that there is room for, those before login included.
        room: usize,
        /// Proxies whose PROXY header is believed. They are other proxies than those of HTTP: one that passes on what anybody sends may
        /// be trusted with the one and not with the other.
        proxies: Vec<IpAddr>,
    },
    /// Somebody else's.
    External {
        /// Address, and the server's own login there.
        url: BrokerUrl,
        /// Listener at which it asks who may do what there, if it does.
        auth: Option<Box<BrokerAuthConfig>>,
    },
}

/// Listener for a broker that asks who may connect, publish and subscribe. Whoever speaks to it shows all that is demanded.
#[derive(Debug, Clone)]
pub struct BrokerAuthConfig {
    /// Listening address. On loopback it speaks plain HTTP, unless certificates are demanded; elsewhere the server's TLS.
    pub listen: SocketAddr,
    /// Secret that is demanded.
    pub secret: Option<Secret>,
    /// A PEM file with the authority of the certificate that is demanded.
    pub ca: Option<PathBuf>,
    /// Management of the broker, by which connections are ended.
    pub management: Option<BrokerManagement>,
}

impl BrokerAuthConfig {
    /// Whether TLS is spoken there.
    pub fn speaks_tls(&self) -> bool {
        self.ca.is_some() || !self.listen.ip().to_canonical().is_loopback()
    }
}

/// RabbitMQ's management API.
#[derive(Debug, Clone)]
pub struct BrokerManagement {
    /// URL, `http://` or `https://`, without a slash at the end.
    pub url: String,
    /// Login of an administrator.
    pub login: Login,
    /// Trust towards it over TLS.
    pub trust: Trust,
}

impl MqttConfig {
    /// Returns an embedded broker at this address, behind no proxies, with as many connections as there are [files for](crate::files::room).
    pub fn embedded(listen: SocketAddr) -> Self {
        Self::Embedded { listen, room: crate::files::room().mqtt, proxies: Vec::new() }
    }
}

/// TLS of a server.
#[derive(Debug, Clone)]
pub struct TlsConfig {
    /// The certificate.
    pub certificate: CertificateSource,
    /// Listening address of HTTPS.
    pub https: SocketAddr,
    /// Listening address of MQTTS, for the embedded broker.
    pub mqtts: SocketAddr,
    /// Listeners that speak without TLS.
    pub plain: PlainListeners,
    /// Whether browsers are told to come back over TLS only.
    pub hsts: bool,
    /// A PEM file with the authority whose certificates devices may log in with at the embedded broker.
    pub device_ca: Option<PathBuf>,
}

/// Origin of a server's certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CertificateSource {
    /// Files of the certificate and of its key; they are read again when they change.
    Files(PairFiles),
    /// An authority of the server's own, in its data folder.
    Own,
    /// A directory that speaks ACME.
    Acme(AcmeConfig),
}

impl CertificateSource {
    /// Returns its name, for metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Files(_) => "files",
            Self::Own => "own",
            Self::Acme(_) => "acme",
        }
    }
}

/// Listeners that speak without TLS beside those that speak it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlainListeners {
    /// Plain HTTP.
    pub http: bool,
    /// Plain MQTT. Without it, the server itself uses a port that it chooses, on loopback.
    pub mqtt: bool,
}

impl Default for PlainListeners {
    /// Both.
    fn default() -> Self {
        Self { http: true, mqtt: true }
    }
}

impl Config {
    /// Whether plain HTTP is spoken.
    pub fn speaks_plain_http(&self) -> bool {
        self.tls.as_ref().is_none_or(|tls| tls.plain.http)
    }

    /// Whether plain MQTT is spoken.
    pub fn speaks_plain_mqtt(&self) -> bool {
        self.tls.as_ref().is_none_or(|tls| tls.plain.mqtt)
    }
}
