//! A broker in a test, and who may do what there: the user name is the identity, the password is `good`.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use otaru_broker::{
    Admission, Bounds, Broker, ConnectRequest, EndOptions, Event, Group, Policy, Reason, Refusal, Settings,
    Stats,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::client::{Client, Connect, Level};

/// Policy of a test. `viewer…` may not publish, `device` only below its own name, and at its end only that it is away; nobody but
/// `house` below `secret/`.
pub(crate) struct House {
    bounds: HashMap<String, Bounds>,
    group: Option<Group>,
    /// Logins pass only as far as there are permits.
    pub(crate) gate: Arc<Semaphore>,
    pub(crate) events: Mutex<Vec<String>>,
}

impl Default for House {
    fn default() -> Self {
        let gate = Arc::new(Semaphore::new(Semaphore::MAX_PERMITS));
        Self { bounds: HashMap::new(), group: None, gate, events: Mutex::default() }
    }
}

impl House {
    pub(crate) fn bounds(mut self, user: &str, bounds: Bounds) -> Self {
        self.bounds.insert(user.into(), bounds);
        self
    }

    pub(crate) fn group(mut self, group: Group) -> Self {
        self.group = Some(group);
        self
    }

    pub(crate) fn closed(mut self) -> Self {
        self.gate = Arc::new(Semaphore::new(0));
        self
    }

    fn is_below_own(who: &str, topic: &str) -> bool {
        !who.starts_with("device") || topic.split('/').next() == Some(who)
    }
}

impl Policy for House {
    type Identity = String;

    async fn identify(&self, request: ConnectRequest) -> Result<Admission<String>, Refusal> {
        self.gate.acquire().await.unwrap().forget();
        if request.username.as_deref() == Some("unknown for now") {
            return Err(Reason::ServerUnavailable.into());
        }
        if request.password.as_ref().is_none_or(|password| password.expose() != b"good") {
            return Err(Refusal { reason: Reason::BadUserNameOrPassword, text: Some("look it up".into()) });
        }
        let identity = request.username.unwrap_or_else(|| "nobody".into());
        let bounds = self.bounds.get(&identity).copied().unwrap_or_default();
        Ok(Admission { bounds, group: self.group.clone(), identity })
    }

    fn may_publish(&self, who: &String, topic: &str) -> bool {
        !who.starts_with("viewer")
            && Self::is_below_own(who, topic)
            && (who == "house" || !topic.starts_with("secret/"))
    }

    fn may_publish_when_ended(&self, who: &String, topic: &str) -> bool {
        !who.starts_with("device") || topic.ends_with("/online")
    }

    fn may_subscribe(&self, who: &String, filter: &str) -> bool {
        Self::is_below_own(who, filter) && (who == "house" || !filter.starts_with("secret/"))
    }

    fn event(&self, event: Event<'_, String>) {
        let line = match event {
            Event::Connected { identity, client, takeover, peer, .. } => {
                let from = if peer.ip().is_loopback() { String::new() } else { format!(" from {peer}") };
                format!("+ {identity} {client}{}{from}", if takeover { " again" } else { "" })
            }
            Event::Disconnected { identity, client, reason } => format!("- {identity} {client} {reason:?}"),
            Event::Refused { client, reason, .. } => format!("x {client} {reason:?}"),
            _ => return,
        };
        self.events.lock().unwrap().push(line);
    }
}

/// A running broker.
pub(crate) struct Running {
    pub(crate) broker: Broker<House>,
    pub(crate) address: SocketAddr,
}

impl Running {
    pub(crate) async fn start(house: House, settings: Settings) -> Self {
        let broker = Broker::new(house, settings);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(broker.listen(listener));
        Self { broker, address }
    }

    /// Starts a broker that takes this address for a proxy.
    pub(crate) async fn behind(proxy: IpAddr, house: House, settings: Settings) -> Self {
        let broker = Broker::new(house, settings);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(broker.listen_behind(listener, [proxy]));
        Self { broker, address }
    }

    pub(crate) async fn plain() -> Self {
        Self::start(House::default(), Settings::default()).await
    }

    /// Opens a socket that says nothing.
    pub(crate) async fn open(&self, level: Level) -> Client {
        let stream = TcpStream::connect(self.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Client::over(stream, level)
    }

    /// Connects and returns what was answered, however it was.
    pub(crate) async fn try_connect(&self, connect: &Connect) -> Client {
        let mut client = self.open(connect.level).await;
        client.send(&connect.bytes()).await;
        if let Some(heard) = client.hear().await {
            assert_eq!(heard.first, 0x20, "{heard:?}");
            client.connack = heard.body;
        }
        client
    }

    /// Connects, and holds that it was let in.
    pub(crate) async fn connect(&self, connect: &Connect) -> Client {
        let client = self.try_connect(connect).await;
        assert_eq!(client.connack.get(1), Some(&0), "refused: {:?}", client.connack);
        client
    }

    pub(crate) async fn client(&self, level: Level, name: &str) -> Client {
        self.connect(&Connect::new(level, name)).await
    }

    pub(crate) fn stats(&self) -> Stats {
        self.broker.stats()
    }

    pub(crate) fn end(&self, who: &'static str) -> usize {
        self.broker.end_identities([who.to_owned()], EndOptions::default())
    }

    /// Waits until the counts are so.
    pub(crate) async fn until(&self, what: &str, so: impl Fn(&Stats) -> bool) {
        for _ in 0..4000 {
            if so(&self.stats()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("not {what}: {:?}", self.stats());
    }

    /// Waits until nobody is connected.
    pub(crate) async fn until_empty(&self) {
        self.until("empty", |stats| stats.connections == 0 && stats.strangers == 0 && stats.logins == 0)
            .await;
    }

    pub(crate) fn events(&self) -> Vec<String> {
        self.broker.policy().events.lock().unwrap().clone()
    }
}
