//! The server's own connection to the broker: hears devices and Home Assistant, and lets the outbox speak.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::publisher::MqttPublisher;
use crate::app::{App, Shared};
use crate::cluster::leases::Task;
use crate::config::MqttConfig;
use crate::home_assistant::entity::EntityTopics;
use crate::home_assistant::run::HomeAssistant;
use crate::reconcile::inbox::{Heard, Inbox, filters};
use crate::reconcile::{asking, outbox};
use otaru_broker::client::{BrokerError, BrokerUrl, Incoming, Message, Mqtt};

/// The first pause before the next attempt to reach the broker; it doubles from one to the next.
const AGAIN: Duration = Duration::from_millis(500);
/// The longest such pause, and how long a connection lasts that makes the next pause short again.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Interval of looking whose turn it is to tell Home Assistant.
const TURN: Duration = Duration::from_millis(500);

/// Keeps a connection to the broker: hears what devices say, and lets the outbox speak.
pub(super) async fn run(app: Shared, url: BrokerUrl) {
    // Devices behind a broker of somebody else's were let in by that, unless it asks here; and here nobody is let in who is not known, unless
    // the server is tried out.
    let may_register = app.config.dev || matches!(app.config.mqtt, MqttConfig::External { auth: None, .. });
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
        app.hears_broker.store(false, Ordering::Relaxed);
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
    app.hears_broker.store(true, Ordering::Relaxed);
    let places = places(app);
    for filter in places.iter().flat_map(EntityTopics::filters) {
        mqtt.subscribe(&filter).await?;
    }
    let sending = outbox::run(app.clone(), MqttPublisher::new(mqtt.publisher()));
    tokio::pin!(sending);
    let back = Notify::new();
    let asking = asking::run(app.clone(), MqttPublisher::new(mqtt.publisher()), &back);
    tokio::pin!(asking);
    let home = HomeAssistant::default();
    let publisher = mqtt.publisher();
    let telling = async {
        match &places {
            Some(places) => loop {
                while !app.holdings.has_task(Task::HomeAssistant) {
                    tokio::time::sleep(TURN).await;
                }
                tokio::select! {
                    () = home.run(app, places, &publisher) => break,
                    () = another_has_it(app) => {}
                }
            },
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
            () = &mut asking => return Ok(()),
            incoming = mqtt.next() => match incoming {
                // Reports do not come this way but to their own sink; see `listen_to_devices`.
                Incoming::Message(message) => {
                    if let Some(places) = &places && app.holdings.has_task(Task::HomeAssistant) {
                        home.take(app, places, &message.topic, &message.payload).await;
                    }
                }
                Incoming::Lost(why) => {
                    app.hears_broker.store(false, Ordering::Relaxed);
                    tracing::warn!(%why, "the broker is lost; trying again");
                }
                Incoming::Back => {
                    app.hears_broker.store(true, Ordering::Relaxed);
                    tracing::info!("the broker is back");
                    back.notify_one();
                }
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

/// Resolves when another server tells Home Assistant.
async fn another_has_it(app: &App) {
    while app.holdings.has_task(Task::HomeAssistant) {
        tokio::time::sleep(TURN).await;
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

/// Returns the topics of Home Assistant, if it is configured.
fn places(app: &App) -> Option<EntityTopics> {
    let prefix = app.config.home_assistant.clone()?;
    Some(EntityTopics { prefix, base: app.config.base.clone(), public_base: app.public_base.clone() })
}
