//! A whole server: its parts put together, started in order and stopped in order.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use otaru_format::topic::Topics;
use otaru_rollout::DeviceId;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::access::first::{self, First};
use crate::access::{self, tokens};
use crate::app::{App, Shared, Wake};
use crate::artifacts::{ArtifactError, Artifacts, DEFAULT_CACHE};
use crate::clock::Clock;
use crate::config::{Config, MqttConfig};
use crate::counts::Counts;
use crate::data_dir::{DataDir, DataDirError};
use crate::db::{Db, DbError};
use crate::home_assistant::entity::Places;
use crate::home_assistant::run::HomeAssistant;
use crate::mqtt::access::{Answer, Authenticator, ConnectRequest, Identity, is_private};
use crate::mqtt::{BrokerError, BrokerUrl, EmbeddedBroker, Incoming, Message, Mqtt, Publisher};
use crate::problem::Problem;
use crate::readiness::Readiness;
use crate::reconcile::inbox::{Heard, Inbox, filters};
use crate::reconcile::outbox::Publish;
use crate::reconcile::{ingest, outbox, work};
use crate::releases::{Keys, jobs};
use crate::{address, api, dashboard, downloads, http, metrics, mount};

/// The first pause before the next attempt to reach the broker; it doubles from one to the next.
const AGAIN: Duration = Duration::from_millis(500);
/// The longest such pause, and how long a connection lasts that makes the next pause short again.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// How long tasks may take to end.
const END: Duration = Duration::from_secs(12);

/// Places for connections that are few for a server of a fleet.
const LITTLE_ROOM: usize = 500;

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its folder cannot be used.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// Its database cannot be used.
    #[error("cannot open the database: {0}")]
    Database(#[from] DbError),
    /// Its artifacts cannot be used.
    #[error("cannot open the firmware store: {0}")]
    Artifacts(#[from] ArtifactError),
    /// A key cannot be read.
    #[error(transparent)]
    Key(#[from] otaru_release::keys::KeyError),
    /// An address cannot be listened at.
    #[error(
        "cannot listen at {address} for {what}: {error}; is another server running? --{option} takes another address"
    )]
    Listen {
        /// For what.
        what: &'static str,
        /// Where.
        address: SocketAddr,
        /// The option that changes it.
        option: &'static str,
        /// The system's reason.
        error: io::Error,
    },
    /// The broker cannot be used. A broker that is away is waited for; this one will not do.
    #[error("{0}")]
    Broker(#[from] BrokerError),
}

/// A running server.
pub struct Server {
    app: Shared,
    http: SocketAddr,
    metrics: Option<SocketAddr>,
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
        if data.make_private()? {
            let folder = config.data.display();
            tracing::warn!(%folder, "others may look into this folder; `chmod 700` it");
        }
        let keys = Keys::read(config.signing_key.as_deref(), &config.trusted_keys)?;
        let listener = listen(config.http, "HTTP", "http").await?;
        let http = listener.local_addr().unwrap_or(config.http);
        let metrics_listener = match config.metrics {
            Some(address) => Some(listen(address, "metrics", "metrics").await?),
            None => None,
        };
        let metrics = metrics_listener.as_ref().and_then(|listener| listener.local_addr().ok());
        let app = Arc::new(App {
            db: Db::open(&data.database())?,
            artifacts: Artifacts::open(&data.artifacts(), DEFAULT_CACHE)?,
            keys,
            clock,
            events: crate::events::Events::default(),
            metrics: metrics::Metrics::default(),
            public_base: address::public_base(config.public_url.as_deref(), http),
            public_mqtt: OnceLock::new(),
            tokens: tokens::Remembered::default(),
            readiness: Readiness::default(),
            polls: crate::rates::Polls::default(),
            failed_logins: crate::rates::FailedLogins::default(),
            registry: crate::devices::registry::Registry::default(),
            recent: ingest::Recent::default(),
            connections: Arc::default(),
            streams: Counts::new(config.limits.streams),
            stop: CancellationToken::new(),
            wake: Wake::default(),
            config,
        });
        ingest::all_gone(&app).await?;
        let (broker, mqtt) = broker(&app).await?;
        let _ = app.public_mqtt.set(public_mqtt(&app.config.mqtt, mqtt.port));
        let mut tasks = JoinSet::new();
        tasks.spawn(http::serve(listener, router(app.clone()), rules(&app), app.stop.clone()));
        if let Some(listener) = metrics_listener {
            let router = metrics::router(app.clone());
            tasks.spawn(http::serve(listener, router, rules(&app), app.stop.clone()));
        }
        tasks.spawn(converse(app.clone(), mqtt.clone()));
        tasks.spawn(work::run(app.clone()));
        tasks.spawn(jobs::run(app.clone(), app.stop.clone()));
        // Everything listens: nothing is left that could keep it from being shown.
        let first_token = first::make(&app).await?;
        tracing::info!(http = %app.public_base, %mqtt, dev = app.config.dev, "started");
        let room = app.config.limits.connections;
        if room < LITTLE_ROOM {
            tracing::warn!(
                "room for {room} HTTP connections: allow more open files (ulimit -n, LimitNOFILE=)"
            );
        }
        Ok(Self { app, http, metrics, mqtt, first_token, broker, tasks, _data: data })
    }

    /// Where HTTP listens.
    pub fn http(&self) -> SocketAddr {
        self.http
    }

    /// Where metrics listen.
    pub fn metrics(&self) -> Option<SocketAddr> {
        self.metrics
    }

    /// The broker as others reach it, without a login.
    pub fn mqtt_url(&self) -> BrokerUrl {
        self.app.public_mqtt.get().unwrap_or(&self.mqtt).clone()
    }

    /// What URLs begin with.
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
    ///
    /// # Errors
    /// Those of the database.
    pub async fn token_was_shown(&self) -> Result<(), DbError> {
        match &self.first_token {
            Some(_) => first::was_shown(&self.app).await,
            None => Ok(()),
        }
    }

    /// What its parts share.
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

    /// Stops it: no new connections, answers that are under way are finished.
    pub async fn stop(mut self) {
        tracing::info!("stopping");
        self.app.stop.cancel();
        let ended = tokio::time::timeout(END, async { while self.tasks.join_next().await.is_some() {} });
        if ended.await.is_err() {
            tracing::warn!("some tasks did not end in time");
        }
    }
}

async fn listen(
    address: SocketAddr,
    what: &'static str,
    option: &'static str,
) -> Result<tokio::net::TcpListener, StartError> {
    http::bind(address).await.map_err(|error| StartError::Listen { what, address, option, error })
}

fn rules(app: &App) -> http::Rules {
    http::Rules {
        limits: app.config.limits,
        proxies: app.config.trusted_proxies.clone(),
        turned_away: app.metrics.turned_away.clone(),
    }
}

/// Every route there is.
fn router(app: Shared) -> Router {
    let rest = Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .with_state(app.clone())
        .merge(api::router(app.clone()))
        .merge(dashboard::router(app.clone()))
        .fallback(not_found);
    // Downloads are not noted one by one: a device fetches a file in many ranges.
    let site = http::with_notes(rest, app.clone()).merge(downloads::router().with_state(app.clone()));
    mount::under(address::path(&app.public_base), site)
}

/// What is nowhere: a page for people, and a problem for programs.
async fn not_found(request: axum::extract::Request) -> Response {
    let accept = request.headers().get(axum::http::header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let people = accept.is_some_and(|accept| accept.contains("text/html"));
    if people && !request.uri().path().starts_with("/api/") {
        dashboard::not_found()
    } else {
        api::not_found().await
    }
}

/// Whether it can do its work.
async fn ready(State(app): State<Shared>) -> Response {
    match app.readiness.ask(&app).await {
        Ok(()) => "ready\n".into_response(),
        Err(why) => Problem::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", why).into_response(),
    }
}

fn public_mqtt(config: &MqttConfig, port: u16) -> BrokerUrl {
    match config {
        MqttConfig::External(url) => BrokerUrl::new(url.host.clone(), url.port),
        MqttConfig::Embedded { listen } => {
            BrokerUrl::new(address::reachable_ip(listen.ip()).to_string(), port)
        }
    }
}

async fn broker(app: &Shared) -> Result<(Option<EmbeddedBroker>, BrokerUrl), StartError> {
    match &app.config.mqtt {
        MqttConfig::External(url) => Ok((None, url.clone())),
        MqttConfig::Embedded { listen } => {
            let doorkeeper = Arc::new(Doorkeeper(app.clone()));
            let broker =
                EmbeddedBroker::guarded(*listen, &app.config.base, doorkeeper, Arc::clone(&app.connections))
                    .await;
            let broker = broker.map_err(|error| StartError::Listen {
                what: "MQTT",
                address: *listen,
                option: "mqtt-listen",
                error,
            })?;
            let url = broker.url().clone();
            Ok((Some(broker), url))
        }
    }
}

/// Who may come to the embedded broker.
struct Doorkeeper(Shared);

impl Authenticator for Doorkeeper {
    fn identify(&self, knock: ConnectRequest) -> Answer<'_, Option<Identity>> {
        Box::pin(async move {
            let (peer, client) = (knock.peer, knock.client.clone());
            match self.who(knock).await {
                Ok(who) => who,
                Err(error) => {
                    tracing::error!(%peer, %client, %error, "a login could not be checked");
                    None
                }
            }
        })
    }
}

impl Doorkeeper {
    async fn who(&self, knock: ConnectRequest) -> Result<Option<Identity>, DbError> {
        let app = &self.0;
        let Some(password) = &knock.password else { return self.without_login(&knock).await };
        if let Ok(caller) = tokens::verify(app, password.expose()).await? {
            // A person's tool must not push a device off its connection by taking its client id.
            return Ok(match self.is_device(&knock.client).await? {
                true => None,
                false => Some(Identity::Token(caller.role)),
            });
        }
        let Some(device) = self.device(&knock.client) else { return Ok(None) };
        let named = knock.username.as_deref();
        let good = access::devices::verify(
            app,
            device.clone(),
            password.expose().to_owned(),
            named,
            knock.peer.ip().to_canonical(),
        )
        .await?;
        Ok(good.then(|| Identity::Device(device.to_string())))
    }

    /// Only while the server is tried out, and never for a device that has a login.
    async fn without_login(&self, knock: &ConnectRequest) -> Result<Option<Identity>, DbError> {
        let ip = knock.peer.ip().to_canonical();
        if !self.0.config.dev || !is_private(ip) {
            return Ok(None);
        }
        if let Some(device) = self.device(&knock.client) {
            let sql = "SELECT EXISTS (SELECT 1 FROM devices WHERE id = ?
                         AND (secret IS NOT NULL OR fleet_key IS NOT NULL OR retired_at IS NOT NULL))";
            let id = device.to_string();
            let barred = self.0.db.read(move |tx| {
                Ok::<bool, DbError>(tx.prepare_cached(sql)?.query_row([id], |row| row.get(0))?)
            });
            if barred.await? {
                return Ok(None);
            }
            if !ip.is_loopback() {
                return Ok(Some(Identity::Device(device.to_string())));
            }
        }
        Ok(ip.is_loopback().then_some(Identity::Local))
    }

    fn device(&self, client: &str) -> Option<DeviceId> {
        Topics::new(&self.0.config.base, client).ok().map(|_| DeviceId::from(client))
    }

    async fn is_device(&self, client: &str) -> Result<bool, DbError> {
        let id = client.to_owned();
        self.0
            .db
            .read(move |tx| Ok(tx.prepare_cached("SELECT 1 FROM devices WHERE id = ?")?.exists([id])?))
            .await
    }
}

/// Keeps a connection to the broker: hears what devices say, and lets the outbox speak.
async fn converse(app: Shared, url: BrokerUrl) {
    // Devices behind a broker of somebody else's were let in by that; ours lets in only whom it knows, unless tried out.
    let may_register = app.config.dev || matches!(app.config.mqtt, MqttConfig::External(_));
    let inbox = Inbox::open(app.clone(), may_register);
    // Also while the broker is away; until this ends.
    let mut taking = JoinSet::new();
    taking.spawn({
        let inbox = inbox.clone();
        async move { inbox.run().await }
    });
    let mut pause = AGAIN;
    while !app.stop.is_cancelled() {
        let began = tokio::time::Instant::now();
        let mqtt = tokio::select! {
            () = app.stop.cancelled() => return,
            mqtt = Mqtt::connect(&url, "server") => mqtt,
        };
        let talked = match mqtt {
            Ok(mqtt) => talk(&app, mqtt, &inbox).await,
            Err(error) => Err(error),
        };
        if let Err(error) = talked {
            tracing::warn!(%error, "the broker cannot be used; trying again");
        }
        tokio::select! {
            () = app.stop.cancelled() => {}
            () = tokio::time::sleep(pause) => {}
        }
        let lasted = began.elapsed() > LONGEST_PAUSE + LONGEST_PAUSE;
        pause = if lasted { AGAIN } else { (pause * 2).min(LONGEST_PAUSE) };
    }
}

async fn talk(app: &Shared, mut mqtt: Mqtt, inbox: &Inbox) -> Result<(), BrokerError> {
    listen_to_devices(app, &mqtt, inbox).await?;
    let places = places(app);
    for filter in places.iter().flat_map(Places::filters) {
        mqtt.subscribe(&filter).await?;
    }
    let sending = outbox::run(app.clone(), MqttPublisher(mqtt.publisher()));
    tokio::pin!(sending);
    let home = HomeAssistant::default();
    let publisher = mqtt.publisher();
    let telling = async {
        match &places {
            Some(places) => home.run(app, places, &publisher).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(telling);
    loop {
        tokio::select! {
            () = app.stop.cancelled() => {
                mqtt.disconnect().await;
                return Ok(());
            }
            () = &mut sending => return Ok(()),
            () = &mut telling => return Ok(()),
            incoming = mqtt.next() => match incoming {
                Incoming::Message(message) => {
                    if let Some(places) = &places {
                        home.take(app, places, &message.topic, &message.payload).await;
                    }
                }
                Incoming::Lost(why) => tracing::warn!(%why, "the broker is lost; trying again"),
                Incoming::Back => tracing::info!("the broker is back"),
                // Of what Home Assistant asked for: somebody presses a button again.
                Incoming::Missed(count) => tracing::warn!(count, "wishes came faster than they could be taken in"),
            },
            count = inbox.missed() => {
                tracing::warn!(count, "reports came faster than they could be taken in; reading them anew");
                // Subscribing again brings every device's last report once more.
                listen_to_devices(app, &mqtt, inbox).await?;
            }
        }
    }
}

async fn listen_to_devices(app: &Shared, mqtt: &Mqtt, inbox: &Inbox) -> Result<(), BrokerError> {
    for filter in filters(&app.config.base) {
        let inbox = inbox.clone();
        let sink = move |message: Message| {
            inbox.put(&Heard { topic: message.topic, payload: message.payload, retained: message.retained });
        };
        mqtt.subscribe_to(&filter, sink).await?;
    }
    Ok(())
}

/// Where Home Assistant listens, if it is there.
fn places(app: &App) -> Option<Places> {
    let prefix = app.config.home_assistant.clone()?;
    Some(Places { prefix, base: app.config.base.clone(), public_base: app.public_base.clone() })
}

/// The outbox's way to the broker.
struct MqttPublisher(Publisher);

impl Publish for MqttPublisher {
    async fn publish(&self, topic: &str, payload: &[u8], expiry: Duration) -> Result<(), String> {
        self.0.publish(topic, payload, false, Some(expiry)).await.map_err(|error| error.to_string())
    }
}
