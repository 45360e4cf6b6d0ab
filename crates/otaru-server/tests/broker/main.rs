//! The embedded broker with a guard at its door: strangers, impostors, and devices that reach for what is others'.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use mqtt5::{
    ConnectOptions, ConnectionEvent, MqttClient, MqttError, PublishOptions, PublishResult, QoS,
    SubscribeOptions, WillMessage,
};
use otaru_api::Role;
use otaru_broker::client::{Incoming, Mqtt};
use otaru_broker::{ConnectRequest, Reason, Refusal};
use otaru_server::mqtt::EmbeddedBroker;
use otaru_server::mqtt::access::{Answer, Authenticator, Identity, Visitor};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::sync::mpsc;
use tokio::time::timeout;

const BASE: &str = "ESP32/ota";
/// Longest that anything may take.
const LIMIT: Duration = Duration::from_secs(20);
/// Time in which nothing must come for "nothing comes".
const SILENCE: Duration = Duration::from_millis(300);

/// Knows devices by their ids as passwords, and two people.
struct Doorkeeper;

impl Authenticator for Doorkeeper {
    fn identify(&self, request: ConnectRequest) -> Answer<'_, Result<Visitor, Refusal>> {
        let token = |role: Role| Identity::Token { id: role.to_string(), role };
        Box::pin(async move {
            let password = request.password.ok_or(Reason::BadUserNameOrPassword)?;
            let identity = match password.expose() {
                b"viewer" => token(Role::Viewer),
                b"operator" => token(Role::Operator),
                password if password == request.client.as_bytes() => Identity::Device(request.client),
                _ => return Err(Reason::BadUserNameOrPassword.into()),
            };
            Ok(identity.into())
        })
    }
}

async fn broker() -> EmbeddedBroker {
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    EmbeddedBroker::start(listen, 1_000, BASE, Arc::new(Doorkeeper), Arc::default(), &[]).await.unwrap()
}

/// Somebody with this client id and this password.
fn options(id: &str, password: &str) -> ConnectOptions {
    ConnectOptions::new(id).with_automatic_reconnect(false).with_credentials("somebody", password.as_bytes())
}

async fn connect(broker: &EmbeddedBroker, options: ConnectOptions) -> Result<MqttClient, MqttError> {
    let client = MqttClient::with_options(options);
    let address = format!("mqtt://{}", broker.address());
    timeout(LIMIT, client.connect(&address)).await.unwrap().map(|()| client)
}

/// Fails unless the broker turns this client away.
async fn refused(broker: &EmbeddedBroker, options: ConnectOptions) {
    let (id, result) = (options.client_id.clone(), connect(broker, options).await);
    assert!(
        matches!(result, Err(MqttError::AuthenticationFailed | MqttError::ConnectionRefused(_))),
        "{id} is let in"
    );
}

async fn device(broker: &EmbeddedBroker, id: &str) -> MqttClient {
    connect(broker, options(id, id)).await.unwrap()
}

/// The server's own connection.
async fn server(broker: &EmbeddedBroker) -> Mqtt {
    let server = Mqtt::connect(broker.url(), "server").await.unwrap();
    server.subscribe("#").await.unwrap();
    server
}

/// Publishes at QoS 1; whether the broker took it.
async fn publishes(client: &MqttClient, topic: &str, retain: bool) -> bool {
    let options = PublishOptions { qos: QoS::AtLeastOnce, retain, ..Default::default() };
    let result = timeout(LIMIT, client.publish_with_options(topic, "x", options)).await.unwrap();
    matches!(result, Ok(PublishResult::Sent(_)))
}

/// Whether the broker grants this filter; what comes then goes to `heard`.
async fn subscribes(client: &MqttClient, filter: &str, heard: &mpsc::UnboundedSender<String>) -> bool {
    let options = SubscribeOptions { qos: QoS::AtLeastOnce, ..Default::default() };
    let heard = heard.clone();
    let subscribing = client.subscribe_with_options(filter, options, move |message| {
        let _ = heard.send(message.topic);
    });
    timeout(LIMIT, subscribing).await.unwrap().is_ok()
}

/// The topic of the next message.
async fn hears(server: &mut Mqtt) -> String {
    let message = async {
        loop {
            if let Incoming::Message(message) = server.next().await {
                return message.topic;
            }
        }
    };
    timeout(LIMIT, message).await.unwrap()
}

/// Fails if anything comes, the loss of the connection included.
async fn hears_nothing(server: &mut Mqtt) {
    let incoming = timeout(SILENCE, server.next()).await;
    assert!(incoming.is_err(), "{incoming:?}");
}

#[tokio::test]
async fn strangers_stay_outside() {
    let broker = broker().await;
    let nobody = ConnectOptions::new("lamp").with_automatic_reconnect(false);
    for options in [nobody, options("lamp", "wrong"), options("lamp", ""), options("lamp", "server")] {
        refused(&broker, options).await;
    }
    let named = options("lamp", "guess");
    let as_server = ConnectOptions::new("lamp").with_automatic_reconnect(false);
    let as_server = as_server.with_credentials(broker.url().username.clone().unwrap(), b"guess");
    for options in [named, as_server] {
        refused(&broker, options).await;
    }
    device(&broker, "lamp").await;
}

#[tokio::test]
async fn a_device_cannot_speak_for_another() {
    let broker = broker().await;
    let mut server = server(&broker).await;
    let lamp = device(&broker, "lamp").await;
    let foreign = [
        "ESP32/ota/other/status",
        "ESP32/ota/other/online",
        "ESP32/ota/other/update",
        "ESP32/ota/lamp/update",
        "ESP32/ota/update",
        "ESP32/ota/lamp",
        "ESP32/ota/lamp/",
        "ESP32/ota/lamp/status/x",
        "ESP32/ota/lamp/status/",
        "ESP32/ota//status",
        "ESP32/ota/lamp2/status",
        "ESP32/ota/LAMP/status",
        "/ESP32/ota/lamp/status",
        "esp32/ota/lamp/status",
        "ESP32/ota/home-assistant/lamp/state",
        "homeassistant/update/otaru_lamp/config",
        "ESP32",
        "x",
    ];
    println!("{} topics that are not the device's", foreign.len());
    for topic in foreign {
        for retain in [false, true] {
            assert!(!publishes(&lamp, topic, retain).await, "{topic}");
        }
        // At QoS 0 nobody is told; it must not arrive either.
        lamp.publish(topic, "x").await.unwrap();
    }
    hears_nothing(&mut server).await;
    for topic in ["lamp/status", "lamp/online", "progress"] {
        let topic = format!("{BASE}/{topic}");
        assert!(publishes(&lamp, &topic, false).await, "{topic}");
        assert_eq!(hears(&mut server).await, topic);
    }
}

#[tokio::test]
async fn a_device_cannot_listen_to_another() {
    let broker = broker().await;
    let server = server(&broker).await;
    let lamp = device(&broker, "lamp").await;
    let (heard, mut hearing) = mpsc::unbounded_channel();
    let foreign = [
        "#",
        "+/#",
        "+/+/+/update",
        "+/+/lamp/update",
        "ESP32/#",
        "ESP32/ota/#",
        "ESP32/ota/+",
        "ESP32/ota/+/update",
        "ESP32/ota/+/status",
        "ESP32/ota/other/update",
        "ESP32/ota/other/#",
        "ESP32/ota/lamp/+",
        "ESP32/+/lamp/update",
        "$share/group/ESP32/ota/other/update",
        "$share/group/ESP32/ota/lamp/update",
        "$share/group/#",
        "$SYS/#",
    ];
    println!("{} filters that are not the device's", foreign.len());
    for filter in foreign {
        assert!(!subscribes(&lamp, filter, &heard).await, "{filter}");
    }
    for filter in ["ESP32/ota/lamp/update", "ESP32/ota/update"] {
        assert!(subscribes(&lamp, filter, &heard).await, "{filter}");
    }
    for topic in ["ESP32/ota/other/update", "ESP32/ota/lamp/update", "ESP32/ota/update"] {
        server.publish(topic, "x", false).await.unwrap();
    }
    let mut next = async || timeout(LIMIT, hearing.recv()).await.unwrap().unwrap();
    assert_eq!([next().await, next().await], ["ESP32/ota/lamp/update", "ESP32/ota/update"]);
    assert!(timeout(SILENCE, hearing.recv()).await.is_err());
}

#[tokio::test]
async fn a_last_will_obeys_the_same_rules() {
    let broker = broker().await;
    let mut server = server(&broker).await;
    for (will, allowed) in [("ESP32/ota/other/online", false), ("ESP32/ota/lamp/online", true)] {
        let mut will = WillMessage::new(will, "offline");
        (will.qos, will.retain) = (QoS::AtLeastOnce, true);
        let topic = will.topic.clone();
        if let Ok(lamp) = connect(&broker, options("lamp", "lamp").with_will(will)).await {
            lamp.disconnect_abnormally().await.unwrap();
        }
        match allowed {
            true => assert_eq!(hears(&mut server).await, topic),
            false => hears_nothing(&mut server).await,
        }
    }
}

#[tokio::test]
async fn nobody_takes_over_a_device_without_its_login() {
    let broker = broker().await;
    let lamp = device(&broker, "lamp").await;
    let (lost, mut losing) = mpsc::unbounded_channel();
    let told = lamp.on_connection_event(move |event| {
        if let ConnectionEvent::Disconnected { .. } = event {
            let _ = lost.send(());
        }
    });
    told.await.unwrap();
    for password in ["other", "wrong", ""] {
        refused(&broker, options("lamp", password)).await;
    }
    assert!(timeout(SILENCE, losing.recv()).await.is_err(), "the device was put out");
    assert!(publishes(&lamp, "ESP32/ota/lamp/status", false).await);
    // With it, one does: a device that comes back before the broker has noticed that it was gone.
    let again = device(&broker, "lamp").await;
    timeout(LIMIT, losing.recv()).await.unwrap();
    assert!(publishes(&again, "ESP32/ota/lamp/status", false).await);
}

#[tokio::test]
async fn nobody_learns_who_published_and_a_client_id_takes_nothing_over() {
    let broker = broker().await;
    let lamp = device(&broker, "lamp").await;
    let mut server = server(&broker).await;
    let (heard, mut hearing) = mpsc::unbounded_channel();
    let options = SubscribeOptions { qos: QoS::AtLeastOnce, ..Default::default() };
    let subscribing = lamp.subscribe_with_options("ESP32/ota/lamp/update", options, move |message| {
        let _ = heard.send(message.properties.user_properties);
    });
    subscribing.await.unwrap();
    server.publish("ESP32/ota/lamp/update", "x", false).await.unwrap();
    assert_eq!(hears(&mut server).await, "ESP32/ota/lamp/update");
    assert_eq!(timeout(LIMIT, hearing.recv()).await.unwrap().unwrap(), []);
    // An operator with the client id of the device, or of the server's kind, is somebody else.
    for id in ["lamp", "otaru-server-00000000"] {
        let operator = connect(&broker, self::options(id, "operator")).await.unwrap();
        assert!(publishes(&operator, "ESP32/ota/lamp/update", false).await);
        assert_eq!(hears(&mut server).await, "ESP32/ota/lamp/update");
        assert_eq!(timeout(LIMIT, hearing.recv()).await.unwrap().unwrap(), []);
    }
    assert!(publishes(&lamp, "ESP32/ota/lamp/status", false).await);
    assert_eq!(hears(&mut server).await, "ESP32/ota/lamp/status");
    hears_nothing(&mut server).await;
}

#[tokio::test]
async fn people_do_what_their_role_may() {
    let broker = broker().await;
    let (heard, mut hearing) = mpsc::unbounded_channel();
    let viewer = connect(&broker, options("otaru-watch-1", "viewer")).await.unwrap();
    let operator = connect(&broker, options("otaru-push-1", "operator")).await.unwrap();
    assert!(subscribes(&viewer, "ESP32/ota/#", &heard).await);
    assert!(!publishes(&viewer, "ESP32/ota/lamp/update", true).await);
    assert!(publishes(&operator, "ESP32/ota/lamp/update", false).await);
    assert_eq!(timeout(LIMIT, hearing.recv()).await.unwrap().unwrap(), "ESP32/ota/lamp/update");
    assert!(timeout(SILENCE, hearing.recv()).await.is_err());
}

/// The bytes of a CONNECT of MQTT 3.1.1 with a clean session.
fn connect_bytes(id: &str, password: &str) -> Vec<u8> {
    let text = |text: &str| [&[0, u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    let rest =
        [text("MQTT"), vec![4, 0b1100_0010, 0, 60], text(id), text("somebody"), text(password)].concat();
    [&[0x10, u8::try_from(rest.len()).unwrap()], &rest[..]].concat()
}

/// The answer to a CONNECT over a stream in memory, and the stream.
async fn connect_in_memory(broker: &EmbeddedBroker, id: &str, password: &str) -> ([u8; 4], DuplexStream) {
    let (mut ours, theirs) = tokio::io::duplex(4_096);
    tokio::spawn(broker.entrance().serve(theirs, ([10, 0, 0, 1], 1883).into()));
    ours.write_all(&connect_bytes(id, password)).await.unwrap();
    let mut answer = [0; 4];
    timeout(LIMIT, ours.read_exact(&mut answer)).await.unwrap().unwrap();
    (answer, ours)
}

#[tokio::test]
async fn a_stream_in_memory_is_let_in_and_turned_away_as_a_socket_is() {
    let broker = broker().await;
    let mut server = server(&broker).await;
    let (answer, _) = connect_in_memory(&broker, "lamp", "wrong").await;
    assert_eq!(answer, [0x20, 2, 0, 4], "a bad user name or password");
    let (answer, mut lamp) = connect_in_memory(&broker, "lamp", "lamp").await;
    assert_eq!(answer, [0x20, 2, 0, 0]);
    for topic in ["ESP32/ota/other/status", "ESP32/ota/lamp/status"] {
        let name = [&[0, u8::try_from(topic.len()).unwrap()], topic.as_bytes()].concat();
        let publish = [&[0x30, u8::try_from(name.len() + 1).unwrap()], &name[..], b"x"].concat();
        lamp.write_all(&publish).await.unwrap();
    }
    assert_eq!(hears(&mut server).await, "ESP32/ota/lamp/status", "not what another would have to say");
}

#[tokio::test]
async fn as_many_are_let_in_as_there_is_room_for() {
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let broker =
        EmbeddedBroker::start(listen, 64, BASE, Arc::new(Doorkeeper), Arc::default(), &[]).await.unwrap();
    let mut inside = Vec::new();
    // A quarter of the room is for those who have not logged in.
    for number in 0..48 {
        let id = format!("lamp{number}");
        let (answer, stream) = connect_in_memory(&broker, &id, &id).await;
        assert_eq!(answer, [0x20, 2, 0, 0], "{id}");
        inside.push(stream);
    }
    let (answer, _) = connect_in_memory(&broker, "lamp48", "lamp48").await;
    assert_eq!(answer, [0x20, 2, 0, 3], "the server is unavailable");
    drop(inside.pop());
    let again = async {
        while connect_in_memory(&broker, "lamp48", "lamp48").await.0 != [0x20, 2, 0, 0] {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(LIMIT, again).await.unwrap();
}
