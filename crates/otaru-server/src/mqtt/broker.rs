//! A broker inside this process: one TCP listener, nothing on disk.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mqtt5::broker::MqttBroker;
use mqtt5::broker::auth::{AllowAllAuthProvider, AuthProvider, AuthResult};
use mqtt5::broker::config::{AuthConfig, BrokerConfig, RateLimitConfig, StorageBackend, StorageConfig};
use mqtt5::broker::server::BrokerShutdownHandle;
use mqtt5::packet::connect::ConnectPacket;
use mqtt5::protocol::v5::reason_codes::ReasonCode;
use otaru_format::digest::Digest;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::access::{self, Answer, Authenticator, ConnectRequest, Identity};
use super::connections::{Attendance, Connections};
use otaru_broker::client::{BrokerUrl, Login, Secret};

/// Largest packet, in bytes; status reports and commands have 1 KiB.
const MAX_PACKET: usize = 256 * 1024;

/// The user name of the server itself, and how its client ids begin (see [`Mqtt::connect`](super::Mqtt::connect)).
const SERVER: &str = "otaru-server";

/// A running broker; it stops when this is dropped.
pub struct EmbeddedBroker {
    url: BrokerUrl,
    address: SocketAddr,
    shutdown: BrokerShutdownHandle,
    task: JoinHandle<Result<(), String>>,
}

impl EmbeddedBroker {
    /// Listens at `listen`; with a login, nobody gets in without it.
    ///
    /// # Errors
    /// When the address is taken or not ours.
    pub async fn start(listen: SocketAddr, login: Option<Login>) -> io::Result<Self> {
        let provider: Arc<dyn AuthProvider> = match &login {
            Some(login) => Arc::new(OneLogin::new(login)),
            None => Arc::new(AllowAllAuthProvider),
        };
        Self::run(listen, provider, login, None).await
    }

    /// Listens at `listen`, for whom `authenticator` knows: each may do under `base` what [`access`] says. Its
    /// [URL](Self::url) has the server's own login. `connections` learns who is connected.
    ///
    /// # Errors
    /// When the address is taken or not ours.
    pub async fn guarded(
        listen: SocketAddr,
        base: &str,
        authenticator: Arc<dyn Authenticator>,
        connections: Arc<Connections>,
    ) -> io::Result<Self> {
        let password = crate::secret::password().map_err(io::Error::other)?;
        let login = Login { username: SERVER.to_owned(), password: Secret::new(password) };
        let guard = Guard {
            base: base.to_owned(),
            authenticator,
            server: OneLogin::new(&login),
            connections: Arc::clone(&connections),
        };
        Self::run(listen, Arc::new(guard), Some(login), Some(connections)).await
    }

    async fn run(
        listen: SocketAddr,
        provider: Arc<dyn AuthProvider>,
        login: Option<Login>,
        connections: Option<Arc<Connections>>,
    ) -> io::Result<Self> {
        // The library tells a taken port only as text; ask the system first.
        drop(TcpListener::bind(listen).await?);
        let mut config = BrokerConfig::default()
            .with_bind_address(listen)
            .with_max_clients(crate::files::room().mqtt)
            .with_max_packet_size(MAX_PACKET)
            .with_session_expiry(Duration::from_secs(24 * 3600))
            .with_sys_topics_enabled(false)
            .with_storage(StorageConfig::new().with_backend(StorageBackend::Memory).with_persistence(true))
            .with_auth(AuthConfig {
                rate_limit: RateLimitConfig { enabled: false, ..RateLimitConfig::default() },
                ..AuthConfig::default()
            });
        if let Some(connections) = connections {
            config = config.with_event_handler(Arc::new(Attendance(connections)));
        }
        let mut broker =
            MqttBroker::with_config(config).await.map_err(io::Error::other)?.with_auth_provider(provider);
        let address = broker.local_addr().unwrap_or(listen);
        let shutdown = broker.shutdown_handle();
        let mut ready = broker.ready_receiver();
        let task = tokio::spawn(async move { broker.run().await.map_err(|error| error.to_string()) });
        // A broker that ends before it is ready tells why through `failed`.
        let _ = ready.wait_for(|ready| *ready).await;
        let mut url = BrokerUrl::new(reachable(address).ip().to_string(), address.port());
        if let Some(login) = login {
            url.username = Some(login.username);
            url.password = Some(login.password);
        }
        Ok(Self { url, address, shutdown, task })
    }

    /// Returns the address of the broker, with the login to use.
    pub fn url(&self) -> &BrokerUrl {
        &self.url
    }

    /// The address it listens at.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Resolves when the broker ends on its own, with the reason.
    pub async fn failed(&mut self) -> String {
        match (&mut self.task).await {
            Ok(Ok(())) => "the broker stopped".into(),
            Ok(Err(error)) => error,
            Err(error) => error.to_string(),
        }
    }
}

impl Drop for EmbeddedBroker {
    fn drop(&mut self) {
        self.shutdown.shutdown();
        self.task.abort();
    }
}

/// Returns the address at which this machine itself reaches a listener: "any address" is no destination.
pub fn reachable(address: SocketAddr) -> SocketAddr {
    use std::net::{Ipv4Addr, Ipv6Addr};
    match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => (Ipv4Addr::LOCALHOST, v4.port()).into(),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => (Ipv6Addr::LOCALHOST, v6.port()).into(),
        other => other,
    }
}

/// Lets one login in. Keeps only its hash, whose comparison tells nothing about the password.
struct OneLogin {
    expected: Digest,
}

impl OneLogin {
    fn new(login: &Login) -> Self {
        Self { expected: Self::hash(&login.username, login.password.expose().as_bytes()) }
    }

    fn hash(username: &str, password: &[u8]) -> Digest {
        let mut bytes = Digest::of(username.as_bytes()).0.to_vec();
        bytes.extend(Digest::of(password).0);
        Digest::of(&bytes)
    }

    fn admits(&self, connect: &ConnectPacket) -> bool {
        match (&connect.username, &connect.password) {
            (Some(username), Some(password)) => Self::hash(username, password) == self.expected,
            _ => false,
        }
    }
}

impl AuthProvider for OneLogin {
    fn authenticate<'a>(
        &'a self,
        connect: &'a ConnectPacket,
        _: SocketAddr,
    ) -> Answer<'a, mqtt5::error::Result<AuthResult>> {
        let result = match self.admits(connect) {
            true => AuthResult::success(),
            false => AuthResult::fail(ReasonCode::BadUsernameOrPassword),
        };
        Box::pin(async move { Ok(result) })
    }

    fn authorize_publish<'a>(&'a self, _: &str, _: Option<&'a str>, _: &'a str) -> Answer<'a, bool> {
        Box::pin(async { true })
    }

    fn authorize_subscribe<'a>(&'a self, _: &str, _: Option<&'a str>, _: &'a str) -> Answer<'a, bool> {
        Box::pin(async { true })
    }
}

/// Lets in whom the authenticator knows, and the server.
struct Guard {
    base: String,
    authenticator: Arc<dyn Authenticator>,
    server: OneLogin,
    connections: Arc<Connections>,
}

impl Guard {
    async fn identify(&self, connect: &ConnectPacket, peer: SocketAddr) -> Option<Identity> {
        if self.server.admits(connect) {
            return Some(Identity::Server);
        }
        // Messages tell their sender's client id; whoever came with it would put the server out.
        if connect.client_id.starts_with(SERVER) {
            return None;
        }
        let password = connect.password.as_deref().map(|bytes| Secret::new(String::from_utf8_lossy(bytes)));
        let (client, username) = (connect.client_id.clone(), connect.username.clone());
        self.authenticator.identify(ConnectRequest { client, username, password, peer }).await
    }
}

impl Guard {
    fn note_takeover(&self, client: &str, peer: SocketAddr) {
        if let Some(contested) = self.connections.admitted(client, peer, Instant::now()) {
            tracing::warn!(client, why = %contested.detail, "a client id is taken over again and again");
        }
    }
}

/// Returns a connection's owner; nobody, if the broker lost it.
fn known(user: Option<&str>) -> Option<Identity> {
    user?.parse().ok()
}

impl AuthProvider for Guard {
    fn authenticate<'a>(
        &'a self,
        connect: &'a ConnectPacket,
        peer: SocketAddr,
    ) -> Answer<'a, mqtt5::error::Result<AuthResult>> {
        Box::pin(async move {
            Ok(match self.identify(connect, peer).await {
                Some(who) => {
                    self.note_takeover(&connect.client_id, peer);
                    AuthResult::success_with_user(who.to_string())
                }
                None => AuthResult::fail(ReasonCode::BadUsernameOrPassword),
            })
        })
    }

    fn authorize_publish<'a>(&'a self, _: &str, user: Option<&'a str>, topic: &'a str) -> Answer<'a, bool> {
        let may = known(user).is_some_and(|who| access::may_publish(&who, &self.base, topic));
        Box::pin(async move { may })
    }

    fn authorize_subscribe<'a>(
        &'a self,
        _: &str,
        user: Option<&'a str>,
        filter: &'a str,
    ) -> Answer<'a, bool> {
        let may = known(user).is_some_and(|who| access::may_subscribe(&who, &self.base, filter));
        Box::pin(async move { may })
    }
}
