//! Parts of a server that all the others share. None of them knows this file: each is given what it needs when it is made.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

use crate::events::Events;
use otaru_rollout::Time;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::access::serials::CertificateEnds;
use crate::access::verify::Tokens;
use crate::address::DeviceBases;
use crate::artifacts::Artifacts;
use crate::clock::Clock;
use crate::cluster::Holdings;
use crate::config::{Config, MqttConfig};
use crate::db::Db;
use crate::devices::bounds::Registry;
use crate::devices::counted::Counted;
use crate::devices::recent::Recent;
use crate::metrics::Metrics;
use crate::mqtt::Connections;
use crate::quotas::Quotas;
use crate::rates::{LoginRates, Polls};
use crate::readiness::Readiness;
use crate::releases::Keys;
use crate::tls::KnownCas;
use otaru_broker::client::BrokerUrl;

/// Parts of a server that all others share.
pub struct App {
    /// Configuration.
    pub config: Config,
    /// The database.
    pub db: Db,
    /// Files.
    pub artifacts: Artifacts,
    /// Keys that sign releases, and those that are trusted.
    pub keys: Keys,
    /// The clock.
    pub clock: Clock,
    /// Time at which this began.
    pub started_at: Time,
    /// Devices and tasks that are this server's.
    pub holdings: Holdings,
    /// Changes, for whoever listens.
    pub events: Events,
    /// Figures.
    pub metrics: Arc<Metrics>,
    /// Beginning of URLs for devices and people, without a slash at the end.
    pub public_base: String,
    /// Beginnings of URLs for devices.
    pub device_bases: DeviceBases,
    /// The broker as devices reach it, without a login; known when it listens.
    pub public_mqtt: OnceLock<BrokerUrl>,
    /// Where the embedded broker speaks TLS, as devices reach it; known when it does.
    pub public_mqtts: OnceLock<String>,
    /// Checks tokens.
    pub tokens: Tokens,
    /// Whether it can do its work.
    pub readiness: Readiness,
    /// Rate of reports over HTTP, by device.
    pub polls: Polls,
    /// Limits of logins, claims and registrations.
    pub login_rates: LoginRates,
    /// Counts of devices that would become known.
    pub registry: Registry,
    /// Counts of the fleet.
    pub counted: Counted,
    /// Last reports of devices.
    pub recent: Recent,
    /// Ends of devices' certificates.
    pub certificate_ends: CertificateEnds,
    /// CAs that are known by name.
    pub cas: KnownCas,
    /// Connections to the embedded broker.
    pub connections: Arc<Connections>,
    /// Event streams, by token.
    pub streams: Arc<Quotas<String>>,
    /// Whether it is known which devices may still be connected, so that the broker can be heard.
    pub swept: watch::Sender<bool>,
    /// Whether the broker is connected and tells what devices say.
    pub hears_broker: AtomicBool,
    /// Tells everybody that the server ends.
    pub stop: CancellationToken,
    /// Wakes those who carry on with work in the background.
    pub wake: Wake,
}

/// Ingredients of an [`App`]; the rest of it begins empty.
pub struct Parts {
    /// Configuration.
    pub config: Config,
    /// The database.
    pub db: Db,
    /// Files.
    pub artifacts: Artifacts,
    /// Keys that sign releases, and those that are trusted.
    pub keys: Keys,
    /// The time.
    pub clock: Clock,
    /// Devices and tasks that are this server's.
    pub holdings: Holdings,
    /// Beginning of URLs for devices and people, without a slash at the end.
    pub public_base: String,
    /// Beginnings of URLs for devices.
    pub device_bases: DeviceBases,
}

impl App {
    /// Puts one together.
    pub fn new(parts: Parts) -> Self {
        let Parts { config, db, artifacts, keys, clock, holdings, public_base, device_bases } = parts;
        let login_rates = LoginRates::new(config.device_limits.per_fleet_key_and_hour);
        Self {
            tokens: Tokens::new(db.clone(), clock.clone()),
            readiness: Readiness::new(db.clone(), artifacts.clone(), clock.clone()),
            streams: Quotas::new(config.http_limits.streams),
            events: Events::default(),
            metrics: Arc::default(),
            public_mqtt: OnceLock::new(),
            public_mqtts: OnceLock::new(),
            polls: Polls::default(),
            registry: Registry::new(config.device_limits, login_rates.registrations.clone()),
            login_rates,
            counted: Counted::new(db.clone()),
            recent: Recent::default(),
            certificate_ends: CertificateEnds::default(),
            cas: known_cas(&config),
            connections: Arc::default(),
            swept: watch::Sender::new(false),
            hears_broker: AtomicBool::new(false),
            stop: CancellationToken::new(),
            wake: Wake::default(),
            config,
            db,
            artifacts,
            keys,
            started_at: clock.now(),
            clock,
            holdings,
            public_base,
            device_bases,
        }
    }

    /// The broker as devices reach it: over TLS where that is spoken.
    pub fn broker(&self) -> String {
        let plain = || self.public_mqtt.get().map(BrokerUrl::to_string);
        self.public_mqtts.get().cloned().or_else(plain).unwrap_or_default()
    }
}

/// Bells: each is rung after a write that made work for somebody. Ringing one too often costs nothing.
#[derive(Debug, Default)]
pub struct Wake {
    /// There is something in the outbox.
    pub outbox: Notify,
    /// A rollout has something to start, to scan, to close or to time.
    pub rollouts: Notify,
    /// There is a job.
    pub jobs: Notify,
    /// There is a sweep of the fleet to be made by a server that hears devices already.
    pub sweep: Notify,
    /// Devices are this server's that were another's: a number that rises each time.
    pub shards: watch::Sender<u64>,
}

/// A share in it.
pub type Shared = Arc<App>;

/// Returns the CAs that an external broker is trusted by.
fn known_cas(config: &Config) -> KnownCas {
    let roots = match &config.mqtt {
        MqttConfig::External { url, .. } if url.tls => url.trust.roots().unwrap_or_default(),
        _ => Vec::new(),
    };
    KnownCas::new(roots.iter().map(AsRef::as_ref))
}
