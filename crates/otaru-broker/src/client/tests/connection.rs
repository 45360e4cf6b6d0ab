//! One connection: messages in and out, limits, pings, and a broker that does not keep to the rules.

use std::collections::VecDeque;

use super::*;
use crate::client::LONGEST_MESSAGE;

const BOTH: [MqttVersion; 2] = [MqttVersion::V5, MqttVersion::V311];

#[tokio::test]
async fn bytes_may_dribble() {
    for version in BOTH {
        let fake = Fake::start().await;
        let url = fake.url(version);
        let dribble = async {
            let mut peer = fake.accept().await;
            peer.stream.set_nodelay(true).unwrap();
            let accepted = if peer.version == Version::V5 { ACCEPTED_5 } else { ACCEPTED_311 };
            // A message before anything is subscribed to, too.
            let early = if peer.version == Version::V5 {
                &[0x30, 4, 0, 1, b'a', 0][..]
            } else {
                &[0x30, 3, 0, 1, b'a']
            };
            for byte in [accepted, early].concat() {
                peer.send(&[byte]).await;
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            peer
        };
        let (mqtt, mut peer) = tokio::join!(Mqtt::connect_at(&url, "test", quick()), dribble);
        let mut mqtt = mqtt.unwrap();
        subscribed(&mqtt, &mut peer, "a/#").await;
        peer.message("a/b", Some(7), b"x").await;
        let message = next_message(&mut mqtt).await;
        assert_eq!(
            (message.topic.as_str(), message.payload.as_slice(), message.retained),
            ("a/b", &b"x"[..], false)
        );
        assert_eq!(peer.packet().await, (0x40, vec![0, 7]));
    }
}

#[tokio::test]
async fn long_messages_are_passed_over_and_acknowledged() {
    for version in BOTH {
        let fake = Fake::start().await;
        let (mut mqtt, mut peer) = pair(&fake, version, quick()).await;
        subscribed(&mqtt, &mut peer, "#").await;
        for (id, len) in
            [(1, LONGEST_MESSAGE + 1), (2, 2 * LONGEST_MESSAGE), (3, 1_000_000), (4, LONGEST_MESSAGE)]
        {
            peer.message("a", Some(id), &vec![7; len]).await;
            assert_eq!(peer.packet().await, (0x40, id.to_be_bytes().to_vec()), "{len} bytes");
        }
        assert_eq!(next_message(&mut mqtt).await.payload.len(), LONGEST_MESSAGE);
    }
}

#[tokio::test]
async fn what_nobody_takes_is_counted() {
    const KEPT: usize = 65_536;
    let fake = Fake::start().await;
    let (mut mqtt, mut peer) = pair(&fake, MqttVersion::V5, quick()).await;
    subscribed(&mqtt, &mut peer, "#").await;
    let flood = [0x30, 5, 0, 1, b'a', 0, b'x'].repeat(KEPT + 10);
    peer.send(&flood).await;
    peer.message("last", Some(1), b"").await;
    assert_eq!(peer.packet().await.0, 0x40, "all is read");
    for _ in 0..KEPT {
        next_message(&mut mqtt).await;
    }
    assert!(matches!(next(&mut mqtt).await, Incoming::Missed(11)));
    peer.message("a", None, b"news").await;
    assert_eq!(next_message(&mut mqtt).await.payload, b"news");
}

#[tokio::test]
async fn a_broker_that_takes_no_acknowledgements_gets_no_more_of_them() {
    /// More than the buffers of two sockets.
    const FAR_TOO_MUCH: usize = 64 << 20;
    let fake = Fake::start().await;
    let (_mqtt, mut peer) = pair(&fake, MqttVersion::V5, quick()).await;
    let message = [0x32, 6, 0, 1, b'a', 0, 1, 0];
    let flood = message.repeat(8192);
    let mut sent = 0;
    while let Ok(len) = timeout(Duration::from_secs(1), peer.stream.write(&flood[sent % flood.len()..])).await
    {
        sent += len.unwrap();
        assert!(sent < FAR_TOO_MUCH, "it reads on");
    }
    // Once it takes them, it has all of them.
    let mut acknowledged = vec![0; sent / message.len() * 4];
    timeout(LIMIT, peer.stream.read_exact(&mut acknowledged)).await.expect("all of them").unwrap();
    assert!(acknowledged.chunks(4).all(|puback| puback == [0x40, 2, 0, 1]));
}

/// Publishes so many messages at once at a broker that takes `most` at a time.
async fn publish_at_once(mqtt: Mqtt, mut peer: Peer, messages: usize, most: usize) {
    let publish = || {
        let publisher = mqtt.publisher();
        tokio::spawn(async move { publisher.publish("a", b"x", false, None).await })
    };
    let publishing: Vec<_> = (0..messages).map(|_| publish()).collect();
    let mut under_way = VecDeque::new();
    for taken in 0..messages {
        if taken >= most {
            peer.is_silent().await;
            let [high, low] = under_way.pop_front().unwrap();
            peer.send(&[0x40, 2, high, low]).await;
        }
        under_way.push_back(peer.published().await);
    }
    for [high, low] in under_way {
        peer.send(&[0x40, 2, high, low]).await;
    }
    for task in publishing {
        task.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn as_many_messages_are_under_way_as_the_broker_wants() {
    let fake = Fake::start().await;
    let url = fake.url(MqttVersion::V5);
    let let_in = async {
        let mut peer = fake.accept().await;
        // A receive maximum of 2.
        peer.send(&[0x20, 6, 0, 0, 3, 0x21, 0, 2]).await;
        peer
    };
    let (mqtt, peer) = tokio::join!(Mqtt::connect_at(&url, "test", quick()), let_in);
    publish_at_once(mqtt.unwrap(), peer, 6, 2).await;
}

#[tokio::test]
async fn there_are_limits_where_the_broker_tells_none() {
    for (version, most) in [(MqttVersion::V5, 1000), (MqttVersion::V311, 100)] {
        let fake = Fake::start().await;
        let (mqtt, peer) = pair(&fake, version, quick()).await;
        publish_at_once(mqtt, peer, most + 3, most).await;
    }
}

#[tokio::test]
async fn refusals_are_told() {
    let fake = Fake::start().await;
    let (mqtt, mut peer) = pair(&fake, MqttVersion::V5, quick()).await;
    let refuse = async {
        let [high, low] = peer.published().await;
        peer.send(&[0x40, 3, high, low, 0x87]).await;
        peer.answer_subscribe(0x87).await;
    };
    let ask = async { (mqtt.publish("a", "x", false).await, mqtt.subscribe("#").await) };
    let ((published, granted), ()) = tokio::join!(ask, refuse);
    let text = published.unwrap_err().to_string();
    assert!(text.contains("turned down a (not authorized)"), "{text}");
    let text = granted.unwrap_err().to_string();
    assert!(text.contains("turned down # (not authorized)"), "{text}");
    // In 3.1.1 there is a word for subscriptions only.
    let (mqtt, mut peer) = pair(&fake, MqttVersion::V311, quick()).await;
    let (granted, _) = tokio::join!(mqtt.subscribe("#"), peer.answer_subscribe(0x80));
    assert!(granted.is_err());
}

#[tokio::test]
async fn limits_of_a_broker_of_5_are_kept() {
    let fake = Fake::start().await;
    let url = fake.url(MqttVersion::V5);
    let let_in = async {
        let mut peer = fake.accept().await;
        // Packets of 100 bytes at most; nothing retained; no QoS 1.
        peer.send(&[0x20, 12, 0, 0, 9, 0x27, 0, 0, 0, 100, 0x25, 0, 0x24, 0]).await;
        peer
    };
    let (mqtt, mut peer) = tokio::join!(Mqtt::connect_at(&url, "test", quick()), let_in);
    let mqtt = mqtt.unwrap();
    let long = mqtt.publish("a", &"x".repeat(100), false).await.unwrap_err().to_string();
    assert!(long.contains("packets of 100 bytes at most"), "{long}");
    let retained = mqtt.publish("a", "x", true).await.unwrap_err().to_string();
    assert!(retained.contains("keeps no messages"), "{retained}");
    mqtt.publish("a", "x", false).await.unwrap();
    assert_eq!(peer.packet().await, (0x30, vec![0, 1, b'a', 0, b'x']));
    let topic = mqtt.publish("a/#", "x", false).await.unwrap_err().to_string();
    assert!(topic.contains("no topic for a message"), "{topic}");
}

#[tokio::test]
async fn a_silent_broker_is_noticed() {
    for version in BOTH {
        let fake = Fake::start().await;
        let pace = Pace { keep_alive: Duration::from_millis(200), ..quick() };
        let (mut mqtt, mut peer) = pair(&fake, version, pace).await;
        // It answers, and all is well.
        for _ in 0..3 {
            assert_eq!(peer.packet().await, (0xC0, Vec::new()));
            peer.send(&[0xD0, 0]).await;
        }
        drop(mqtt);
        let pace = Pace { answer: Duration::from_millis(200), ..pace };
        (mqtt, peer) = pair(&fake, version, pace).await;
        assert_eq!(lost(&mut mqtt).await, "the broker fell silent");
        peer.ends().await;
    }
}

#[tokio::test]
async fn a_broker_that_breaks_the_rules_is_left() {
    for version in BOTH {
        for (bytes, text) in [
            (&[0x30, 0xFF, 0xFF, 0xFF, 0xFF][..], "length makes no sense"),
            (&[0x90, 0xFF, 0xFF, 0x7F], "too long"),
            (&[0x34, 7, 0, 1, b'a', 0, 1, 0, b'x'], "breaks a rule of the protocol"),
            (&[0x30, 1, 0], "no MQTT packet"),
            (&[0x00, 0], "no MQTT packet"),
            (&[0x10, 0], "breaks a rule of the protocol"),
        ] {
            let fake = Fake::start().await;
            let (mut mqtt, mut peer) = pair(&fake, version, quick()).await;
            peer.send(bytes).await;
            let why = lost(&mut mqtt).await;
            assert!(why.contains(text), "{why}, not: {text}");
            peer.ends().await;
        }
    }
    let fake = Fake::start().await;
    let (mut mqtt, mut peer) = pair(&fake, MqttVersion::V5, quick()).await;
    peer.send(&[0xE0, 1, 0x8B]).await;
    assert_eq!(lost(&mut mqtt).await, "the broker said goodbye (server shutting down)");
}

#[tokio::test]
async fn answers_to_nothing_are_passed_over() {
    for version in BOTH {
        let fake = Fake::start().await;
        let (mut mqtt, mut peer) = pair(&fake, version, quick()).await;
        peer.send(&[0x40, 2, 0, 9, 0xD0, 0]).await;
        subscribed(&mqtt, &mut peer, "a").await;
        peer.message("a", None, b"x").await;
        assert_eq!(next_message(&mut mqtt).await.payload, b"x");
    }
}

#[tokio::test]
async fn goodbye_is_said() {
    for version in BOTH {
        let fake = Fake::start().await;
        let (mqtt, mut peer) = pair(&fake, version, quick()).await;
        mqtt.disconnect().await;
        assert_eq!(peer.packet().await, (0xE0, Vec::new()));
        let (mqtt, mut peer) = pair(&fake, version, quick()).await;
        let publisher = mqtt.publisher();
        drop(mqtt);
        assert_eq!(peer.packet().await, (0xE0, Vec::new()));
        publisher.publish("a", b"x", false, None).await.unwrap_err();
    }
}
