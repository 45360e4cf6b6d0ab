//! A whole server: its parts put together, started in order and stopped in order.
//!
//! | file | what |
//! | --- | --- |
//! | `broker` | the embedded broker, or where the other one is |
//! | `broker_auth` | the listener at which the other one asks who may do what |
//! | `doorkeeper` | who may come to the embedded broker |
//! | `cas` | the warning that a CA is about to end which devices depend on |
//! | `expiry` | the end of who is connected with a token that has expired |
//! | `member`, `hearsay` | its place among servers that share a database, and what they tell each other |
//! | `conversation` | the server's own connection to the broker |
//! | `publisher` | messages of the outbox on their way to the broker |
//! | `listen` | addresses, bound or told why not |
//! | `store` | the store of firmware, and whether it has what the database knows |
//! | `routes`, `metrics` | every route of the site, and that of the metrics |
//! | `mount` | the site under a path |
//! | `tls` | its certificate, and the listeners that speak TLS |

mod broker;
mod broker_auth;
mod cas;
mod conversation;
mod doorkeeper;
mod error;
mod expiry;
mod hearsay;
mod listen;
mod member;
mod metrics;
mod mount;
mod publisher;
mod routes;
mod store;
mod tls;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::task::JoinSet;

pub use self::error::StartError;

use self::broker_auth::BrokerListener;
use self::listen::listen;
use self::member::Joined;
use self::tls::{LookNow, ServerTls};
use crate::access::first::{self, First};
use crate::address::{DeviceBases, Listening};
use crate::app::{App, Parts, Shared};
use crate::clock::Clock;
use crate::cluster::Holdings;
use crate::config::{CertificateSource, Config};
use crate::data_dir::DataDir;
use crate::db::{Db, DbError, Location};
use crate::mqtt::{EmbeddedBroker, Entrance};
use crate::reconcile::{sweep, work};
use crate::releases::{Keys, jobs};
use crate::{address, http, secret};
use otaru_broker::client::BrokerUrl;

/// Longest time for tasks to end.
const END: Duration = Duration::from_secs(12);

/// Places for connections that are few for a server of a fleet.
const LITTLE_ROOM: usize = 500;

/// A running server.
pub struct Server {
    app: Shared,
    listening: Listening,
    mqtts: Option<SocketAddr>,
    look_now: LookNow,
    authority_file: Option<PathBuf>,
    metrics: Option<SocketAddr>,
    broker_auth: Option<SocketAddr>,
    mqtt: BrokerUrl,
    first_token: Option<First>,
    broker: Option<EmbeddedBroker>,
    tasks: JoinSet<()>,
    _data: DataDir,
}

impl Server {
    /// Starts one with the system's clock.
    ///
    /// # Errors
    /// When a part of it cannot start; those that had are stopped then.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        Self::start_at(config, Clock::system()).await
    }

    /// Starts one with this clock.
    ///
    /// # Errors
    /// When a part of it cannot start; those that had are stopped then.
    pub async fn start_at(config: Config, clock: Clock) -> Result<Self, StartError> {
        let data = DataDir::open(&config.data)?;
        if config.database.is_none() {
            data.make_database()?;
        }
        if data.make_private()? {
            let folder = config.data.display();
            tracing::warn!(%folder, "others may look into this folder; `chmod 700` it");
        }
        let keys = Keys::read(config.signing_key.as_deref(), &config.trusted_keys)?;
        let listener = match config.speaks_plain_http() {
            true => Some(listen(config.http, "HTTP", "http").await?),
            false => None,
        };
        let tls = match &config.tls {
            Some(tls) => Some(ServerTls::open(&config, tls, &data, &clock).await?),
            None => None,
        };
        let listening = Listening {
            http: listener.as_ref().map(|listener| listener.local_addr().unwrap_or(config.http)),
            https: tls.as_ref().zip(config.tls.as_ref()).map(|(tls, config)| tls.address(config)),
        };
        let metrics_listener = match config.metrics {
            Some(address) => Some(listen(address, "metrics", "metrics").await?),
            None => None,
        };
        let metrics_address = metrics_listener.as_ref().and_then(|listener| listener.local_addr().ok());
        let public_base = address::public_base(config.public_url.as_deref(), listening);
        let authority = tls.as_ref().and_then(ServerTls::authority);
        let db = open(&config, &data).await?;
        let artifacts = store::open(&config, &data, &db).await?;
        let app = Arc::new(App::new(Parts {
            db,
            artifacts,
            device_bases: DeviceBases::new(&public_base, listening),
            public_base,
            keys,
            clock,
            holdings: holdings(&config)?,
            config,
        }));
        let me = member::of(&app, listening.http.or(listening.https).unwrap_or(app.config.http));
        let Joined { notice, alone } = match &me {
            Some(me) => member::join(&app, me, &data).await?,
            None => {
                app.db.write(|tx| sweep::begin(tx, "")).await?;
                Joined { notice: 0, alone: true }
            }
        };
        let is_acme =
            app.config.tls.as_ref().is_some_and(|tls| matches!(tls.certificate, CertificateSource::Acme(_)));
        if !alone && is_acme {
            return Err(StartError::AcmeBesideOthers);
        }
        let asked = BrokerListener::open(&app, tls.as_ref()).await?;
        let broker_auth = asked.as_ref().and_then(BrokerListener::address);
        let mut tasks = JoinSet::new();
        let authority_file = authority.map(|authority| authority.certificate());
        let router = routes::router(app.clone(), authority_file.clone());
        let site = http::Site::new(router, rules(&app));
        if let Some(listener) = listener {
            tasks.spawn(site.clone().serve(listener, http::Transport::Plain, app.stop.clone()));
        }
        let look_now = LookNow::default();
        let mqtt_tls = tls.as_ref().map(ServerTls::mqtt);
        if let Some(tls) = tls {
            tls.check_name(&app.public_base);
            app.cas.follow(tls.live());
            let (listener, transport, fresh) = tls.into_parts(&app, look_now.clone());
            tasks.spawn(site.serve(listener, transport, app.stop.clone()));
            tasks.spawn(fresh);
        }
        if let Some(listener) = metrics_listener {
            let router = metrics::router(app.clone());
            tasks.spawn(http::serve(listener, router, rules(&app), app.stop.clone()));
        }
        if let Some(asked) = asked {
            tasks.spawn(asked.run(app.clone()));
        }
        let (mut broker, mqtt) = broker::start(&app).await?;
        let mqtts = match (&mut broker, mqtt_tls) {
            (Some(broker), Some(tls)) => Some(broker::listen_over_tls(&app, broker, tls).await?),
            _ => None,
        };
        let _ = app.public_mqtt.set(broker::as_devices_reach_it(&app.config.mqtt, mqtt.port));
        if let Some(me) = me {
            tasks.spawn(member::run(app.clone(), me));
            tasks.spawn(hearsay::listen(app.clone(), notice));
            tasks.spawn(hearsay::tell(app.clone()));
        }
        tasks.spawn(talk(app.clone(), mqtt.clone()));
        tasks.spawn(expiry::run(app.clone()));
        tasks.spawn(cas::run(app.clone()));
        tasks.spawn(work::run(app.clone()));
        tasks.spawn(jobs::run(app.clone(), app.stop.clone()));
        // A large fleet is counted before somebody asks for it.
        let _ = app.counted.of_large();
        // Everything listens: nothing is left that could keep it from being shown.
        let first_token = first::make(&app).await?;
        tracing::info!(http = %app.public_base, mqtt = %app.broker(), dev = app.config.dev, "started");
        let room = app.config.http_limits.connections;
        if room < LITTLE_ROOM {
            tracing::warn!(
                "room for {room} HTTP connections: allow more open files (ulimit -n, LimitNOFILE=)"
            );
        }
        let metrics = metrics_address;
        Ok(Self {
            app,
            listening,
            mqtts,
            look_now,
            authority_file,
            metrics,
            broker_auth,
            mqtt,
            first_token,
            broker,
            tasks,
            _data: data,
        })
    }

    /// Returns the listening address of plain HTTP; that of HTTPS where nothing else is spoken.
    pub fn http(&self) -> SocketAddr {
        let any = self.listening.http.or(self.listening.https);
        any.unwrap_or(self.app.config.http)
    }

    /// Returns the listening address of HTTPS, if it is spoken.
    pub fn https(&self) -> Option<SocketAddr> {
        self.listening.https
    }

    /// Returns the listening address of MQTTS, if the embedded broker speaks it.
    pub fn mqtts(&self) -> Option<SocketAddr> {
        self.mqtts
    }

    /// Returns the file of the certificate that others are to trust, where the server made its own.
    pub fn authority_file(&self) -> Option<&Path> {
        self.authority_file.as_deref()
    }

    /// Has the files of the certificate looked at now, rather than in a few seconds.
    pub fn reload_certificate(&self) {
        self.look_now.notify_one();
    }

    /// Returns the listening address of the metrics.
    pub fn metrics(&self) -> Option<SocketAddr> {
        self.metrics
    }

    /// Returns the listening address for a broker's questions, if one asks.
    pub fn broker_auth(&self) -> Option<SocketAddr> {
        self.broker_auth
    }

    /// The broker as others reach it, without a login.
    pub fn mqtt_url(&self) -> BrokerUrl {
        self.app.public_mqtt.get().unwrap_or(&self.mqtt).clone()
    }

    /// Returns the way to the embedded broker for connections that are no sockets; `None` with another broker.
    pub fn mqtt_entrance(&self) -> Option<Entrance> {
        self.broker.as_ref().map(EmbeddedBroker::entrance)
    }

    /// Returns the beginning of URLs.
    pub fn public_base(&self) -> &str {
        &self.app.public_base
    }

    /// The admin token that was made because there was none. Whoever shows it says so: [`token_was_shown`](Self::token_was_shown).
    pub fn first_token(&self) -> Option<&str> {
        self.first_token.as_ref().map(|first| first.text.expose())
    }

    /// Whether that token takes the place of one that an earlier start made, and that may never have been shown.
    pub fn is_token_made_again(&self) -> bool {
        self.first_token.as_ref().is_some_and(|first| first.again)
    }

    /// Notes that the token was shown. One that was not is ended by the next start, which makes another.
    pub async fn token_was_shown(&self) -> Result<(), DbError> {
        match &self.first_token {
            Some(_) => first::was_shown(&self.app).await,
            None => Ok(()),
        }
    }

    /// Returns what its parts share.
    pub fn app(&self) -> &Shared {
        &self.app
    }

    /// Resolves when the server cannot go on, with the reason.
    pub async fn failed(&mut self) -> String {
        let broker = async {
            match &mut self.broker {
                Some(broker) => broker.failed().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            why = broker => why,
            ended = self.tasks.join_next() => match ended {
                Some(Err(error)) => format!("a part of it failed: {error}"),
                _ => "a part of it ended".to_owned(),
            },
        }
    }

    /// Prepares its end: `/readyz` says so, and other servers of the same database have what was its own. Requests are answered still.
    pub fn leave(&self) {
        self.app.readiness.leave();
    }

    /// Stops it: no new connections, answers that are under way are finished.
    pub async fn stop(mut self) {
        tracing::info!("stopping");
        self.app.stop.cancel();
        let ended = tokio::time::timeout(END, async { while self.tasks.join_next().await.is_some() {} });
        if ended.await.is_err() {
            tracing::warn!("some tasks did not end in time");
        }
        // Nobody hears any more what it would acknowledge.
        drop(self.broker.take());
        match self.app.db.checkpoint().await {
            Ok(()) => {}
            Err(DbError::Busy(_)) => {
                tracing::warn!(
                    "somebody reads the database, and its log stays beside its file: copy otaru.db-wal with otaru.db"
                );
            }
            Err(error) => {
                tracing::warn!(%error, "the database's log stays beside its file: copy otaru.db-wal with otaru.db")
            }
        }
    }
}

/// Hears devices once it is known which of them may be there. With many devices this takes a minute, in which whoever asks over HTTP is answered.
async fn talk(app: Shared, broker: BrokerUrl) {
    while sweep::run(&app).await {
        tokio::select! {
            () = conversation::run(app.clone(), broker.clone()) => return,
            () = app.wake.sweep.notified() => {
                app.hears_broker.store(false, Ordering::Relaxed);
                tracing::warn!("this server stood still, and another began to note which devices are gone: none is heard before that is done");
            }
        }
    }
}

/// Returns what of the fleet is this server's: everything, unless others may share its database.
fn holdings(config: &Config) -> Result<Holdings, StartError> {
    match &config.database {
        None => Ok(Holdings::everything()),
        Some(_) => Ok(Holdings::member(secret::random_id().map_err(StartError::Random)?)),
    }
}

/// Opens the database.
async fn open(config: &Config, data: &DataDir) -> Result<Db, DbError> {
    let location = match &config.database {
        Some(settings) => Location::Postgres(settings.clone()),
        None => Location::File(data.database()),
    };
    let opening = tokio::task::spawn_blocking(move || Db::open(location));
    opening.await.unwrap_or(Err(DbError::Closed))
}

fn rules(app: &App) -> http::Rules {
    http::Rules {
        limits: app.config.http_limits,
        proxies: app.config.trusted_proxies.clone(),
        turned_away: app.metrics.turned_away.clone(),
        hsts: app.config.tls.as_ref().is_some_and(|tls| tls.hsts),
    }
}
