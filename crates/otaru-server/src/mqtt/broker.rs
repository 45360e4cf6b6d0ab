//! The broker inside this process: that of `otaru-broker`, with who may come to this server and what they may do there.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use otaru_broker::client::{BrokerUrl, Login, Secret};
use otaru_broker::{
    Admission, Broker, Channel, ConnectRequest, EndOptions, Event, OneLogin, Policy, Reason, Refusal,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::access::{self, Authenticator, Identity, Visitor};
use super::bounds;
use super::connections::{Connections, EndConnections};
use crate::tls::MqttTls;

/// The user name of the server itself.
const SERVER: &str = "otaru-server";

/// Sentence for clients that speak plain MQTT where TLS is spoken.
const NEEDS_TLS: &str = "this port speaks TLS, and plain MQTT was spoken to it; use mqtts://";

/// A running broker; it stops when this is dropped.
pub struct EmbeddedBroker {
    url: BrokerUrl,
    address: SocketAddr,
    broker: Broker<Guard>,
    connections: Arc<Connections>,
    task: JoinHandle<()>,
    /// The listener that speaks TLS.
    over_tls: Option<JoinHandle<()>>,
}

impl EmbeddedBroker {
    /// Listens at `listen`, with `room` for so many connections, for whom `authenticator` knows: each may do under `base` what
    /// [`access`] says. Its [URL](Self::url) has the server's own login. `connections` learns who is connected, and can end them. The
    /// `proxies` may say who is behind them.
    ///
    /// # Errors
    /// When the address is taken or not ours.
    pub async fn start(
        listen: SocketAddr,
        room: usize,
        base: &str,
        authenticator: Arc<dyn Authenticator>,
        connections: Arc<Connections>,
        proxies: &[IpAddr],
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        let password = crate::secret::password().map_err(io::Error::other)?;
        let login = Login { username: SERVER.to_owned(), password: Secret::new(password) };
        let guard = Guard {
            base: base.to_owned(),
            authenticator,
            server: OneLogin::new(&login),
            connections: Arc::clone(&connections),
        };
        let broker = Broker::new(guard, bounds::settings(room));
        connections.attend(broker.clone());
        let task = tokio::spawn(broker.listen_behind(listener, proxies.iter().copied()));
        let mut url = BrokerUrl::new(reachable(address).ip().to_string(), address.port());
        (url.username, url.password) = (Some(login.username), Some(login.password));
        Ok(Self { url, address, broker, connections, task, over_tls: None })
    }

    /// Listens at another address, over TLS. Returns the address.
    ///
    /// # Errors
    /// When the address is taken or not ours.
    pub async fn listen_over_tls(&mut self, listen: SocketAddr, tls: MqttTls) -> io::Result<SocketAddr> {
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        let listening = self.broker.listen_with(listener, move |stream, peer| tls.wrap(stream, peer));
        self.over_tls = Some(tokio::spawn(listening));
        Ok(address)
    }

    /// Returns the address of the broker, with the login to use.
    pub fn url(&self) -> &BrokerUrl {
        &self.url
    }

    /// The address it listens at.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the way in for connections that are no sockets.
    pub fn entrance(&self) -> Entrance {
        Entrance(self.broker.clone())
    }

    /// Counts what it holds.
    pub fn stats(&self) -> otaru_broker::Stats {
        self.broker.stats()
    }

    /// Resolves when the broker ends on its own, with the reason.
    pub async fn failed(&mut self) -> String {
        let over_tls = async {
            match &mut self.over_tls {
                Some(task) => task.await,
                None => std::future::pending().await,
            }
        };
        let ended = tokio::select! {
            ended = &mut self.task => ended,
            ended = over_tls => ended,
        };
        match ended {
            Ok(()) => "the broker stopped".into(),
            Err(error) => error.to_string(),
        }
    }
}

impl Drop for EmbeddedBroker {
    fn drop(&mut self) {
        self.connections.leave();
        self.task.abort();
        if let Some(task) = &self.over_tls {
            task.abort();
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let broker = self.broker.clone();
            runtime.spawn(async move { broker.stop().await });
        }
    }
}

/// A way to the broker for connections that are no sockets, such as streams in memory; clones are of the same one.
#[derive(Clone)]
pub struct Entrance(Broker<Guard>);

impl Entrance {
    /// Serves a connection of `peer` until it ends, with the rules and bounds of any other.
    pub fn serve<S>(&self, stream: S, peer: SocketAddr) -> impl Future<Output = ()> + Send + 'static
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        self.0.serve(stream, peer)
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

impl EndConnections for Broker<Guard> {
    fn end(&self, ended: Vec<Identity>) -> usize {
        // A device that is ended is away, and everybody is to hear it.
        self.end_identities(ended, EndOptions { publish_wills: true, ..EndOptions::default() })
    }

    fn forget_retained(&self, prefix: &str) {
        Self::forget_retained(self, prefix);
    }
}

/// Lets in whom the authenticator knows, and the server.
struct Guard {
    base: String,
    authenticator: Arc<dyn Authenticator>,
    server: OneLogin,
    connections: Arc<Connections>,
}

impl Policy for Guard {
    type Identity = Identity;

    async fn identify(&self, request: ConnectRequest) -> Result<Admission<Identity>, Refusal> {
        if request.channel == Channel::PlainAtTls {
            return Err(Refusal { reason: Reason::NotAuthorized, text: Some(NEEDS_TLS.to_owned()) });
        }
        let Visitor { identity, is_registered, fleet_key } = match self.server.admits(&request) {
            true => Visitor::from(Identity::Server),
            false => self.authenticator.identify(request).await?,
        };
        let bounds = bounds::of(&identity, is_registered);
        Ok(Admission { bounds, identity, group: fleet_key.map(bounds::group) })
    }

    fn may_publish(&self, who: &Identity, topic: &str) -> bool {
        access::may_publish(who, &self.base, topic)
    }

    fn may_publish_when_ended(&self, who: &Identity, topic: &str) -> bool {
        access::may_publish_when_ended(who, &self.base, topic)
    }

    fn may_subscribe(&self, who: &Identity, filter: &str) -> bool {
        access::may_subscribe(who, &self.base, filter)
    }

    fn event(&self, event: Event<'_, Identity>) {
        match event {
            Event::Connected { identity, client, peer, takeover, over_tls, .. } => {
                if takeover && let Some(told) = self.connections.taken_over(client, peer, Instant::now()) {
                    tracing::warn!(client, why = %told.detail, "a client id is taken over again and again");
                }
                self.connections.came(identity, over_tls);
            }
            Event::Disconnected { identity, .. } => self.connections.went(identity),
            _ => {}
        }
    }
}
