//! Brokers' answers to a CONNECT, and their consequences.

use super::*;
use crate::client::BrokerError;

/// Answer of a broker in one version: these bytes, and then the end of the connection; none are silence.
type Answers = (&'static [u8], &'static [u8]);

/// Connects to a broker that answers a CONNECT of 5 with the first and one of 3.1.1 with the second. Returns the versions in which it was
/// asked, and what came of it.
async fn ask(version: MqttVersion, answers: Answers) -> (Vec<Version>, Result<Version, BrokerError>) {
    let fake = Fake::start().await;
    let url = fake.url(version);
    let mut asked = Vec::new();
    let answering = async {
        loop {
            let mut peer = fake.accept().await;
            asked.push(peer.version);
            peer.send(if peer.version == Version::V5 { answers.0 } else { answers.1 }).await;
            let _ = peer.stream.shutdown().await;
        }
    };
    let connected = tokio::select! {
        connected = Mqtt::connect_at(&url, "test", quick()) => connected,
        () = answering => unreachable!("it answers for ever"),
    };
    (asked, connected.map(|mqtt| mqtt.version()))
}

#[tokio::test]
async fn the_version_is_what_the_broker_speaks() {
    use Version::{V5, V311};
    const AUTO: MqttVersion = MqttVersion::Auto;
    for (who, setting, answers, wanted) in [
        ("NATS 2.9 and 2.15, Mosquitto", AUTO, (&[0x20, 2, 0, 1][..], ACCEPTED_311), &[V5, V311][..]),
        ("RabbitMQ 3.10", AUTO, (&[], ACCEPTED_311), &[V5, V5, V311]),
        ("RabbitMQ 4", AUTO, (ACCEPTED_5, &[]), &[V5]),
        ("the embedded one", AUTO, (&[0x20, 3, 0, 0x84, 0], ACCEPTED_311), &[V5, V311]),
        ("one that takes 5 for 3.1.1", AUTO, (ACCEPTED_311, ACCEPTED_311), &[V5, V311]),
        ("5 by setting", MqttVersion::V5, (ACCEPTED_5, &[]), &[V5]),
        ("3.1.1 by setting", MqttVersion::V311, (&[], ACCEPTED_311), &[V311]),
    ] {
        let (asked, connected) = ask(setting, answers).await;
        assert_eq!(asked, wanted, "{who}");
        assert_eq!(connected.unwrap(), *wanted.last().unwrap(), "{who}");
    }
}

#[tokio::test]
async fn what_is_no_broker_for_us_says_why() {
    use Version::{V5, V311};
    const AUTO: MqttVersion = MqttVersion::Auto;
    let http = b"HTTP/1.1 400 Bad Request\r\n\r\n".as_slice();
    for (setting, answers, wanted, text) in [
        (AUTO, (&[][..], &[][..]), &[V5, V5, V311][..], "is this a TLS port?"),
        (MqttVersion::V5, (&[], ACCEPTED_311), &[V5], "does it speak MQTT 5? --mqtt-version auto"),
        (MqttVersion::V311, (ACCEPTED_5, &[]), &[V311], "is this a TLS port?"),
        (AUTO, (&[0x20, 2, 0, 1], &[0x20, 2, 0, 1]), &[V5, V311], "speaks neither MQTT 5 nor 3.1.1"),
        (
            MqttVersion::V5,
            (&[0x20, 2, 0, 1], ACCEPTED_311),
            &[V5],
            "does not speak MQTT 5; --mqtt-version auto",
        ),
        (MqttVersion::V311, (ACCEPTED_5, &[0x20, 3, 0, 0x84, 0]), &[V311], "does not speak MQTT 3.1.1"),
        // A login error never falls back, in whichever form it comes.
        (AUTO, (&[0x20, 2, 0, 4], ACCEPTED_311), &[V5], "wants a login"),
        (AUTO, (&[0x20, 2, 0, 5], ACCEPTED_311), &[V5], "wants a login"),
        (AUTO, (&[0x20, 3, 0, 0x86, 0], ACCEPTED_311), &[V5], "wants a login"),
        (AUTO, (&[0x20, 3, 0, 0x87, 0], ACCEPTED_311), &[V5], "wants a login"),
        (AUTO, (&[0x20, 2, 0, 1], &[0x20, 2, 0, 5]), &[V5, V311], "wants a login"),
        // Nor does a refusal.
        (
            AUTO,
            (&[0x20, 2, 0, 3], ACCEPTED_311),
            &[V5],
            "turned the connection away (it is not available now)",
        ),
        (AUTO, (&[0x20, 3, 0, 0x89, 0], ACCEPTED_311), &[V5], "turned the connection away (server busy)"),
        // Nor do bytes that are no answer.
        (AUTO, (http, ACCEPTED_311), &[V5], "does not speak MQTT (its answer is no CONNACK)"),
        (AUTO, (&[0x15, 3, 1, 0, 2, 2, 70], ACCEPTED_311), &[V5], "does not speak MQTT (it speaks TLS)"),
        (AUTO, (&[0x20, 3, 0], ACCEPTED_311), &[V5], "it closes the connection within its answer"),
        (AUTO, (&[0x20, 0xFF, 0xFF, 0xFF, 0xFF], ACCEPTED_311), &[V5], "a packet's length makes no sense"),
        (AUTO, (&[0x20, 0xFF, 0xFF, 0x7F], ACCEPTED_311), &[V5], "a packet is too long"),
        (AUTO, (&[0x20, 3, 0, 0, 9], ACCEPTED_311), &[V5], "its CONNACK makes no sense"),
        (AUTO, (&[0x20, 0], ACCEPTED_311), &[V5], "its CONNACK makes no sense"),
    ] {
        let (asked, connected) = ask(setting, answers).await;
        let error = connected.unwrap_err().to_string();
        assert!(error.contains(text), "{error}, not: {text}");
        assert_eq!(asked, wanted, "{text}");
    }
}

#[tokio::test]
async fn a_broker_that_does_not_answer_is_asked_once() {
    let fake = Fake::start().await;
    let url = fake.url(MqttVersion::Auto);
    let pace = Pace { answer: Duration::from_millis(100), ..quick() };
    let (connected, peer) = tokio::join!(Mqtt::connect_at(&url, "test", pace), fake.accept());
    let error = connected.err().unwrap();
    assert!(matches!(error, BrokerError::Silent(_)), "{error}");
    peer.ends().await;
}

#[tokio::test]
async fn networks_without_a_broker() {
    // A port that was free a moment ago. This file is in the crate's tarball, where nothing that is not published is.
    let port =
        std::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let nobody = BrokerUrl::new("127.0.0.1", port);
    let error = Mqtt::connect_at(&nobody, "test", quick()).await.err().unwrap();
    assert!(matches!(error, BrokerError::Refused(_)), "{error}");
    let unknown = BrokerUrl::new("no-such-host.invalid", 1883);
    let error = Mqtt::connect_at(&unknown, "test", quick()).await.err().unwrap();
    assert!(matches!(error, BrokerError::UnknownHost(_)), "{error}");
}

#[tokio::test]
async fn a_login_is_sent_in_both_versions() {
    for version in [MqttVersion::V5, MqttVersion::V311] {
        let fake = Fake::start().await;
        let url: BrokerUrl = "mqtt://ann:secret@h".parse().unwrap();
        let url = BrokerUrl { host: "127.0.0.1".into(), port: fake.url(version).port, version, ..url };
        let refuse = async {
            let (mut stream, _) = fake.0.accept().await.unwrap();
            let mut buf = [0; 1000];
            let len = stream.read(&mut buf).await.unwrap();
            stream.write_all(&[0x20, 2, 0, 5]).await.unwrap();
            buf[..len].to_vec()
        };
        let (connected, connect) = tokio::join!(Mqtt::connect_at(&url, "test", quick()), refuse);
        assert!(connect.ends_with(b"\0\x03ann\0\x06secret"), "{connect:x?}");
        let error = connected.err().unwrap().to_string();
        assert!(error.contains("refused the login of \"ann\"") && !error.contains("secret"), "{error}");
    }
}

#[tokio::test]
async fn a_broker_of_5_is_told_how_long_packets_may_be() {
    let fake = Fake::start().await;
    let url = fake.url(MqttVersion::V5);
    let look = async {
        let (mut stream, _) = fake.0.accept().await.unwrap();
        let mut buf = [0; 1000];
        let len = stream.read(&mut buf).await.unwrap();
        buf[..len].to_vec()
    };
    let (_, connect) = tokio::join!(Mqtt::connect_at(&url, "test", quick()), look);
    // Flags: a clean start. Keep-alive of 20 s. One property.
    assert_eq!(connect[9..20], [2, 0, 20, 5, 0x27, 0, 0, 0x20, 5, 0, 19]);
}
