//! An MQTT client: connect, subscribe, publish, and one queue of what arrives.
//!
//! Reconnecting and subscribing again is the library's work; what is ours is to say in plain words why a
//! broker cannot be reached.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mqtt5::client::DisconnectReason;
use mqtt5::{ConnectOptions, ConnectionEvent, MqttClient, MqttError, PublishOptions, PublishResult, QoS};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::url::BrokerUrl;

/// Time for a broker to accept a connection, a subscription or a message.
const ANSWER: Duration = Duration::from_secs(10);
/// Longest payload that is looked at.
pub const LONGEST_MESSAGE: usize = 4 * 1024;
/// Messages that may wait to be taken. More are dropped, and counted: the library cannot be made to wait.
const WAITING: usize = 65_536;

/// News from the broker.
#[derive(Debug)]
pub enum Incoming {
    /// A message.
    Message(Message),
    /// The connection is lost; it will be tried again.
    Lost(String),
    /// The connection is back.
    Back,
    /// So many messages were dropped: nobody took them in time. Retained ones can be had again by subscribing again.
    Missed(u64),
}

/// A message.
#[derive(Debug)]
pub struct Message {
    /// The topic.
    pub topic: String,
    /// The payload.
    pub payload: Vec<u8>,
    /// Whether the broker had kept it: it is old news.
    pub retained: bool,
}

/// Why the broker did not do what was asked.
#[derive(Debug)]
pub enum BrokerError {
    /// No such host.
    UnknownHost(String),
    /// Nothing listens there.
    Refused(String),
    /// No answer.
    Silent(String),
    /// Another network error.
    Network(String, io::Error),
    /// Something listens, but it is no MQTT 5 broker.
    NotMqtt(String, String),
    /// A login is needed, or it is wrong.
    Login {
        /// The broker.
        broker: String,
        /// The user name that was given.
        username: Option<String>,
    },
    /// A subscription or message was turned down.
    Denied {
        /// The topic or filter.
        topic: String,
        /// The broker's reason.
        reason: String,
    },
}

impl fmt::Display for BrokerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownHost(broker) => {
                write!(f, "no such host: {broker}; check the name in --broker")
            }
            Self::Refused(broker) => write!(
                f,
                "nothing listens at {broker}; is the broker running? `otaru broker` or `mosquitto` starts one"
            ),
            Self::Silent(broker) => {
                write!(f, "{broker} does not answer; check address, port and firewall")
            }
            Self::Network(broker, error) => write!(f, "cannot reach {broker}: {error}"),
            Self::NotMqtt(broker, why) => {
                write!(f, "{broker} does not speak MQTT 5 ({why}); check the port")
            }
            Self::Login { broker, username: None } => {
                write!(f, "{broker} wants a login; give --username and --password (or OTARU_PASSWORD)")
            }
            Self::Login { broker, username: Some(name) } => {
                write!(f, "{broker} refused the login of \"{name}\"; check user name and password")
            }
            Self::Denied { topic, reason } => {
                write!(f, "the broker turned down {topic} ({reason}); check its access rules for this user")
            }
        }
    }
}

impl std::error::Error for BrokerError {}

/// A connection to the broker.
pub struct Mqtt {
    client: MqttClient,
    sender: mpsc::Sender<Incoming>,
    incoming: mpsc::Receiver<Incoming>,
    missed: Arc<AtomicU64>,
}

impl Mqtt {
    /// Connects; `role` becomes part of the client id.
    pub async fn connect(url: &BrokerUrl, role: &str) -> Result<Self, BrokerError> {
        let id = format!("otaru-{role}-{:08x}", rand::random::<u32>());
        let mut options = ConnectOptions::new(id)
            .with_clean_start(true)
            .with_keep_alive(Duration::from_secs(20))
            .with_reconnect_delay(Duration::from_millis(500), Duration::from_secs(10));
        if let Some(login) = url.login() {
            options = options.with_credentials(login.username, login.password.expose().as_bytes());
        }
        let client = MqttClient::with_options(options);
        client.set_queue_on_disconnect(false).await;
        let (sender, incoming) = mpsc::channel(WAITING);
        let connected = timeout(ANSWER, client.connect(&url.to_string())).await;
        if !matches!(connected, Ok(Ok(()))) {
            end(&client).await;
        }
        match connected {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(explain(url, error).await),
            Err(_) => return Err(BrokerError::Silent(url.to_string())),
        }
        let events = sender.clone();
        let told = client.on_connection_event(move |event| {
            let event = match event {
                ConnectionEvent::Connected { .. } => Incoming::Back,
                ConnectionEvent::Disconnected { reason } => match reason {
                    DisconnectReason::ClientInitiated => return,
                    reason => Incoming::Lost(in_words(&reason)),
                },
                _ => return,
            };
            // Nobody listens any more when the command is over; and who is that far behind learns of it later.
            let _ = events.try_send(event);
        });
        told.await.map_err(|error| BrokerError::NotMqtt(url.to_string(), error.to_string()))?;
        Ok(Self { client, sender, incoming, missed: Arc::default() })
    }

    /// Subscribes at QoS 1; retained messages follow at once.
    ///
    /// # Errors
    /// When the broker does not grant it.
    pub async fn subscribe(&self, filter: &str) -> Result<(), BrokerError> {
        let (sender, missed) = (self.sender.clone(), Arc::clone(&self.missed));
        let sink = move |message| {
            if let Err(mpsc::error::TrySendError::Full(_)) = sender.try_send(Incoming::Message(message)) {
                missed.fetch_add(1, Ordering::Relaxed);
            }
        };
        self.subscribe_to(filter, sink).await
    }

    /// The same, with `sink` in place of the queue. It is called where messages are read, and must not wait.
    ///
    /// # Errors
    /// When the broker does not grant it.
    pub async fn subscribe_to(
        &self,
        filter: &str,
        sink: impl Fn(Message) + Send + Sync + 'static,
    ) -> Result<(), BrokerError> {
        let options = mqtt5::SubscribeOptions { qos: QoS::AtLeastOnce, ..Default::default() };
        let subscribed = self.client.subscribe_with_options(filter, options, move |message| {
            if message.payload.len() <= LONGEST_MESSAGE {
                sink(Message { topic: message.topic, payload: message.payload, retained: message.retain });
            }
        });
        let denied = |reason| BrokerError::Denied { topic: filter.to_owned(), reason };
        match timeout(ANSWER, subscribed).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(denied(error.to_string())),
            Err(_) => Err(denied("no answer".into())),
        }
    }

    /// Publishes at QoS 1 and waits until the broker has it.
    ///
    /// # Errors
    /// When it does not take it.
    pub async fn publish(&self, topic: &str, payload: &str, retain: bool) -> Result<(), BrokerError> {
        self.publisher().publish(topic, payload.as_bytes(), retain, None).await
    }

    /// A handle to publish with, as many messages at once as wanted.
    pub fn publisher(&self) -> Publisher {
        Publisher(self.client.clone())
    }

    /// The next thing that arrives.
    pub async fn next(&mut self) -> Incoming {
        // Told when all that did wait is taken: only then is there room for what is read anew.
        if self.incoming.is_empty() {
            match self.missed.swap(0, Ordering::Relaxed) {
                0 => {}
                count => return Incoming::Missed(count),
            }
        }
        match self.incoming.recv().await {
            Some(incoming) => incoming,
            // Cannot happen while `self.sender` lives; wait rather than spin.
            None => std::future::pending().await,
        }
    }

    /// Says goodbye.
    pub async fn disconnect(self) {
        end(&self.client).await;
    }
}

impl Drop for Mqtt {
    fn drop(&mut self) {
        // The library's tasks hold the client, too, and would connect it again for ever.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let client = self.client.clone();
            runtime.spawn(async move {
                end(&client).await;
                // An attempt that was under way may have come to its end after that.
                tokio::time::sleep(ANSWER).await;
                end(&client).await;
            });
        }
    }
}

/// Ends a client for good: also one that has not connected yet, which the library goes on trying by itself.
async fn end(client: &MqttClient) {
    // It is over either way.
    let _ = timeout(Duration::from_secs(1), client.disconnect()).await;
}

/// Publishes over a connection; clones share it.
#[derive(Clone)]
pub struct Publisher(MqttClient);

impl Publisher {
    /// Publishes at QoS 1 and waits until the broker has it. The broker forgets it after `expiry`, where one is given.
    ///
    /// # Errors
    /// When it does not take it.
    pub async fn publish(
        &self,
        topic: &str,
        payload: &[u8],
        retain: bool,
        expiry: Option<Duration>,
    ) -> Result<(), BrokerError> {
        let mut options = PublishOptions { qos: QoS::AtLeastOnce, retain, ..Default::default() };
        let seconds = expiry.map(|expiry| u32::try_from(expiry.as_secs()).unwrap_or(u32::MAX).max(1));
        options.properties.message_expiry_interval = seconds;
        let denied = |reason| BrokerError::Denied { topic: topic.to_owned(), reason };
        match timeout(ANSWER, self.0.publish_with_options(topic, payload, options)).await {
            Ok(Ok(PublishResult::Sent(_))) => Ok(()),
            Ok(Ok(PublishResult::Queued(_))) => Err(denied("the connection was lost meanwhile".into())),
            Ok(Err(error)) => Err(denied(error.to_string())),
            Err(_) => Err(denied("no answer".into())),
        }
    }
}

fn in_words(reason: &DisconnectReason) -> String {
    match reason {
        DisconnectReason::ServerDisconnect(code) => format!("the broker said goodbye ({code:?})"),
        DisconnectReason::KeepAliveTimeout => "the broker fell silent".into(),
        _ => "the connection broke".into(),
    }
}

/// The library gives connection errors as text; a second look at the address tells them apart.
async fn explain(url: &BrokerUrl, error: MqttError) -> BrokerError {
    use mqtt5::protocol::v5::reason_codes::ReasonCode;
    let broker = url.to_string();
    match error {
        MqttError::ConnectionRefused(
            ReasonCode::BadUsernameOrPassword
            | ReasonCode::NotAuthorized
            | ReasonCode::BadAuthenticationMethod,
        )
        | MqttError::AuthenticationFailed
        | MqttError::NotAuthorized => BrokerError::Login { broker, username: url.username.clone() },
        MqttError::ConnectionRefused(code) => BrokerError::NotMqtt(broker, format!("it answered {code:?}")),
        other => match probe(url).await {
            Some(error) => error,
            None => BrokerError::NotMqtt(broker, other.to_string()),
        },
    }
}

async fn probe(url: &BrokerUrl) -> Option<BrokerError> {
    let broker = url.to_string();
    let Ok(addresses) = tokio::net::lookup_host((url.host.as_str(), url.port)).await else {
        return Some(BrokerError::UnknownHost(broker));
    };
    let addresses: Vec<_> = addresses.collect();
    match timeout(Duration::from_secs(3), TcpStream::connect(addresses.as_slice())).await {
        Err(_) => Some(BrokerError::Silent(broker)),
        Ok(Ok(_)) => None,
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
            Some(BrokerError::Refused(broker))
        }
        Ok(Err(error)) => Some(BrokerError::Network(broker, error)),
    }
}
