//! The client over brokers that people have: Mosquitto in both versions, and NATS and RabbitMQ, which have no word of 5.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;
use std::time::Duration;

use otaru_broker::Version;
use otaru_broker::client::{BrokerUrl, Incoming, Message, Mqtt, MqttVersion};
use otaru_testing::brokers::{mosquitto, nats, rabbitmq};
use otaru_testing::{LIMIT, free_port, have};
use tempfile::TempDir;
use tokio::time::timeout;

/// A broker that runs; it ends when this is dropped.
type Running = Box<dyn std::any::Any>;

/// A broker that can be started at a port, with its folder.
struct Broker {
    start: fn(&Path, u16) -> Running,
    dir: TempDir,
    port: u16,
}

impl Broker {
    /// Returns none when a program is missing.
    fn new(programs: &[&str], start: fn(&Path, u16) -> Running) -> Option<Self> {
        have(programs).then(|| Self { start, dir: tempfile::tempdir().unwrap(), port: free_port() })
    }

    fn mosquitto() -> Option<Self> {
        Self::new(&["mosquitto"], |dir, port| Box::new(mosquitto(dir, port)))
    }

    fn nats() -> Option<Self> {
        Self::new(&["nats-server"], |dir, port| Box::new(nats(dir, port)))
    }

    fn rabbitmq() -> Option<Self> {
        Self::new(&["rabbitmq-server", "epmd"], |dir, port| Box::new(rabbitmq(dir, port)))
    }

    fn start(&self) -> Running {
        (self.start)(self.dir.path(), self.port)
    }

    async fn connect(&self, version: MqttVersion) -> Mqtt {
        let url = BrokerUrl::new("127.0.0.1", self.port).with_version(version);
        // A server that listens may not be ready yet: RabbitMQ closes until its plug-in is.
        let connected = async {
            loop {
                match Mqtt::connect(&url, "test").await {
                    Ok(mqtt) => return mqtt,
                    Err(error) => eprintln!("{error}; trying again"),
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        };
        timeout(LIMIT, connected).await.expect("a connection")
    }
}

async fn next(mqtt: &mut Mqtt) -> Incoming {
    timeout(LIMIT, mqtt.next()).await.expect("something arrives")
}

async fn next_message(mqtt: &mut Mqtt) -> Message {
    loop {
        if let Incoming::Message(message) = next(mqtt).await {
            return message;
        }
    }
}

/// Everything that Otaru asks of a broker through this client.
async fn serves(broker: Option<Broker>, setting: MqttVersion, version: Version) {
    let Some(broker) = broker else { return };
    let running = broker.start();
    serves_while(&broker, running, setting, version).await;
}

/// The same of one that has no word of 5, and what is said of it to a program that wants nothing else.
async fn speaks_311_only(broker: Option<Broker>, text: &str) {
    let Some(broker) = broker else { return };
    let running = broker.start();
    broker.connect(MqttVersion::V311).await.disconnect().await;
    let url = BrokerUrl::new("127.0.0.1", broker.port).with_version(MqttVersion::V5);
    let error = Mqtt::connect(&url, "test").await.err().unwrap().to_string();
    assert!(error.contains(text), "{error}");
    serves_while(&broker, running, MqttVersion::Auto, Version::V311).await;
}

async fn serves_while(broker: &Broker, running: Running, setting: MqttVersion, version: Version) {
    let mut mqtt = broker.connect(setting).await;
    assert_eq!(mqtt.version(), version);
    many_messages(&mut mqtt).await;
    retained_messages(broker, &mqtt, setting).await;
    long_messages(&mut mqtt).await;
    comes_back(broker, running, mqtt, version).await;
}

/// More than may be under way at once.
async fn many_messages(mqtt: &mut Mqtt) {
    mqtt.subscribe("ESP32/ota/+/status").await.unwrap();
    let publisher = mqtt.publisher();
    let sending: Vec<_> = (0..300)
        .map(|number| {
            let publisher = publisher.clone();
            tokio::spawn(async move {
                let (topic, payload) = (format!("ESP32/ota/lamp-{number}/status"), number.to_string());
                publisher.publish(&topic, payload.as_bytes(), false, Some(Duration::from_secs(60))).await
            })
        })
        .collect();
    let mut heard = std::collections::BTreeSet::new();
    while heard.len() < 300 {
        let message = next_message(mqtt).await;
        let number: u32 = String::from_utf8(message.payload).unwrap().parse().unwrap();
        assert_eq!(message.topic, format!("ESP32/ota/lamp-{number}/status"));
        assert!(!message.retained);
        heard.insert(number);
    }
    for sent in sending {
        sent.await.unwrap().unwrap();
    }
}

async fn retained_messages(broker: &Broker, mqtt: &Mqtt, version: MqttVersion) {
    mqtt.publish("ESP32/ota/lamp/update", "kept", true).await.unwrap();
    let mut other = broker.connect(version).await;
    other.subscribe("ESP32/ota/lamp/update").await.unwrap();
    let kept = next_message(&mut other).await;
    assert_eq!((kept.payload.as_slice(), kept.retained), (&b"kept"[..], true));
    mqtt.publish("ESP32/ota/lamp/update", "", true).await.unwrap();
    other.disconnect().await;
}

/// Passes over messages that are too long for us, and takes the next one.
async fn long_messages(mqtt: &mut Mqtt) {
    for len in [5_000, 20_000, 300_000] {
        mqtt.publish("ESP32/ota/long/status", &"x".repeat(len), false).await.unwrap();
    }
    mqtt.publish("ESP32/ota/long/status", "short", false).await.unwrap();
    assert_eq!(next_message(mqtt).await.payload, b"short");
}

async fn comes_back(broker: &Broker, running: Running, mut mqtt: Mqtt, version: Version) {
    drop(running);
    while !matches!(next(&mut mqtt).await, Incoming::Lost(_)) {}
    mqtt.publish("ESP32/ota/a/status", "nobody has it", false).await.unwrap_err();
    let _running = broker.start();
    while !matches!(next(&mut mqtt).await, Incoming::Back) {}
    assert_eq!(mqtt.version(), version);
    mqtt.publish("ESP32/ota/a/status", "after", false).await.unwrap();
    assert_eq!(next_message(&mut mqtt).await.payload, b"after");
    mqtt.disconnect().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mosquitto_in_5() {
    serves(Broker::mosquitto(), MqttVersion::Auto, Version::V5).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mosquitto_in_311() {
    serves(Broker::mosquitto(), MqttVersion::V311, Version::V311).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nats_in_311() {
    speaks_311_only(Broker::nats(), "does not speak MQTT 5; --mqtt-version auto").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rabbitmq_in_311() {
    let text = "closes the connection without a word; does it speak MQTT 5?";
    speaks_311_only(Broker::rabbitmq(), text).await;
}
