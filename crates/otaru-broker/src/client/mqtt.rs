//! The client as programs see it: connect, subscribe, publish, and one queue of what arrives.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::connection::{Command, Desk};
use super::error::BrokerError;
use super::message::{Incoming, Message};
use super::pace::Pace;
use super::packet::Outgoing;
use super::reconnect::{self, Dialer, News};
use super::subscription::Subscriptions;
use super::url::BrokerUrl;
use crate::version::Version;

/// Messages that may wait to be taken. More are dropped, and counted: reading on keeps the connection alive.
const WAITING: usize = 65_536;
/// Requests that may wait for a connection that has its hands full; who asks for more waits.
const REQUESTS: usize = 64;
/// Time to say goodbye.
const GOODBYE: Duration = Duration::from_secs(2);

/// A connection to the broker. Dropped, it says goodbye in the background.
pub struct Mqtt {
    publisher: Publisher,
    sender: mpsc::Sender<Incoming>,
    incoming: mpsc::Receiver<Incoming>,
    missed: Arc<AtomicU64>,
    version: watch::Receiver<Version>,
    /// Keeps the connection; it ends when this is dropped.
    stop: watch::Sender<()>,
    task: JoinHandle<()>,
}

impl Mqtt {
    /// Connects; `role` becomes part of the client id.
    ///
    /// # Errors
    /// When the broker cannot be reached, or does not want this connection.
    pub async fn connect(url: &BrokerUrl, role: &str) -> Result<Self, BrokerError> {
        Self::connect_at(url, role, Pace::default()).await
    }

    pub(super) async fn connect_at(url: &BrokerUrl, role: &str, pace: Pace) -> Result<Self, BrokerError> {
        let client = format!("otaru-{role}-{:08x}", rand::random::<u32>());
        let mut dialer = Dialer::new(url, client, pace);
        let first = dialer.first().await?;
        let (sender, incoming) = mpsc::channel(WAITING);
        let (requests, commands) = mpsc::channel(REQUESTS);
        let (stop, stopped) = watch::channel(());
        let (version_sender, version) = watch::channel(first.version);
        let desk = Desk { commands, subscriptions: Subscriptions::default(), stop: stopped };
        let news = sender.clone();
        let on_news = move |event| {
            // Whoever is that far behind learns of it later.
            let _ = news.try_send(match event {
                News::Lost(why) => Incoming::Lost(why),
                News::Back(version) => {
                    version_sender.send_replace(version);
                    Incoming::Back
                }
            });
        };
        let task = tokio::spawn(reconnect::keep(dialer, first, desk, on_news));
        let publisher = Publisher { requests, answer: pace.answer };
        Ok(Self { publisher, sender, incoming, missed: Arc::default(), version, stop, task })
    }

    /// Returns the version that is spoken, or was before the connection was lost.
    pub fn version(&self) -> Version {
        *self.version.borrow()
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
        let sink = Arc::new(sink);
        self.publisher.ask(filter, |reply| Command::Subscribe(filter.to_owned(), sink, reply)).await
    }

    /// Publishes at QoS 1 and waits until the broker has it.
    ///
    /// # Errors
    /// When it does not take it.
    pub async fn publish(&self, topic: &str, payload: &str, retain: bool) -> Result<(), BrokerError> {
        self.publisher.publish(topic, payload.as_bytes(), retain, None).await
    }

    /// Returns a handle to publish with, as many messages at once as wanted.
    pub fn publisher(&self) -> Publisher {
        self.publisher.clone()
    }

    /// Waits for the next thing that arrives.
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
        drop(self.stop);
        // It is over either way.
        let _ = timeout(GOODBYE, self.task).await;
    }
}

/// Publishes over a connection; clones share it.
#[derive(Clone)]
pub struct Publisher {
    requests: mpsc::Sender<Command>,
    answer: Duration,
}

impl Publisher {
    /// Publishes at QoS 1 and waits until the broker has it. The broker forgets it after `expiry`, where one is given and the broker
    /// speaks MQTT 5.
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
        let message = Outgoing { topic: topic.to_owned(), payload: payload.to_vec(), retain, expiry };
        self.ask(topic, |reply| Command::Publish(message, reply)).await
    }

    async fn ask(
        &self,
        topic: &str,
        command: impl FnOnce(oneshot::Sender<Result<(), String>>) -> Command,
    ) -> Result<(), BrokerError> {
        let denied = |reason| BrokerError::Denied { topic: topic.to_owned(), reason };
        let lost = || BrokerError::Lost { topic: topic.to_owned() };
        let (reply, answer) = oneshot::channel();
        let asked = async {
            self.requests.send(command(reply)).await.map_err(|_| lost())?;
            answer.await.map_err(|_| lost())?.map_err(denied)
        };
        match timeout(self.answer, asked).await {
            Ok(result) => result,
            Err(_) => Err(denied("no answer".into())),
        }
    }
}
