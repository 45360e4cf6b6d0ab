//! Statements of the standards that no other file holds: what a client may rely on, whatever else is going on.

use crate::client::{BOTH, Connect, Level, binary, packet, string};
use crate::house::Running;

/// Asks for no reason strings.
const NO_REASONS: [u8; 2] = [23, 0];

#[tokio::test]
async fn a_subscription_that_is_made_again_replaces_the_one_before() {
    let house = Running::plain().await;
    let mut writer = house.client(Level::V5, "writer").await;
    let mut client = house.client(Level::V5, "c").await;
    client.subscribe_with("a", 0, &[11, 5]).await;
    client.subscribe_with("a", 1, &[]).await;
    writer.publish_with("a", "x", 2, &[]).await;
    let message = client.message().await;
    assert_eq!((message.qos, message.properties), (1, Vec::new()), "without the identifier of the first");
    client.is_quiet().await;
}

#[tokio::test]
async fn reasons_are_told_only_to_whoever_wants_them() {
    let house = Running::plain().await;
    for (wanted, properties) in [(true, &[][..]), (false, &NO_REASONS)] {
        let connect = Connect::new(Level::V5, "c").user("viewer").properties(properties);
        let mut client = house.connect(&connect).await;
        let refused = client.publish_bytes("a", b"x", 2, 9, &[]);
        client.send(&refused).await;
        let answer = client.next().await;
        assert_eq!((answer.first, answer.body[2]), (0x40, 0x87));
        assert_eq!(answer.body.len() > 4, wanted, "{answer:?}");
        client.send(&packet(0x82, &[&[0, 7, 0][..], &string("$share/g/a"), &[1]].concat())).await;
        let answer = client.next().await;
        assert_eq!(answer.body.last(), Some(&0x9E));
        assert!(wanted || answer.body[2] == 0, "{answer:?}");
    }
}

#[tokio::test]
async fn texts_that_are_no_utf_8_end_the_connection() {
    let house = Running::plain().await;
    for level in BOTH {
        for text in [&b"a\xC3\x28"[..], b"a\xED\xA0\x80", b"\xC0\x80", b"a\xFF"] {
            let properties: &[u8] = if level == Level::V5 { &[0] } else { &[] };
            let publish = packet(0x30, &[&binary(text), properties].concat());
            let subscribe = packet(0x82, &[&[0, 7][..], properties, &binary(text), &[0]].concat());
            for bytes in [publish, subscribe] {
                let mut client = house.client(level, "c").await;
                client.try_send(&bytes).await;
                assert_eq!(client.ending().await, (level == Level::V5).then_some(0x81), "{text:?}");
            }
        }
    }
}

#[tokio::test]
async fn flags_and_identifiers_that_must_not_be_end_the_connection() {
    let house = Running::plain().await;
    for level in BOTH {
        let properties: &[u8] = if level == Level::V5 { &[0] } else { &[] };
        let filter = [&string("a")[..], &[0]].concat();
        for (what, bytes) in [
            ("QoS 3", packet(0x36, &[&string("a"), &[0, 1][..], properties].concat())),
            ("DUP at QoS 0", packet(0x38, &[&string("a"), properties].concat())),
            ("an identifier of 0", packet(0x32, &[&string("a"), &[0, 0][..], properties].concat())),
            ("flags of PUBACK", vec![0x41, 2, 0, 1]),
            ("flags of SUBSCRIBE", packet(0x80, &[&[0, 1][..], properties, &filter].concat())),
            ("0 in a SUBSCRIBE", packet(0x82, &[&[0, 0][..], properties, &filter].concat())),
            ("QoS 3 wanted", packet(0x82, &[&[0, 1][..], properties, &string("a"), &[3]].concat())),
            ("reserved options", packet(0x82, &[&[0, 1][..], properties, &string("a"), &[0xC0]].concat())),
            ("no filter to end", packet(0xA2, &[&[0, 1][..], properties].concat())),
            ("flags of PINGREQ", vec![0xC1, 0]),
            ("flags of DISCONNECT", vec![0xE1, 0]),
            ("type 0", vec![0, 0]),
        ] {
            let mut client = house.client(level, "c").await;
            client.try_send(&bytes).await;
            let reason = client.ending().await;
            let is_told = reason.is_some_and(|reason| matches!(reason, 0x81 | 0x82));
            assert!(if level == Level::V5 { is_told } else { reason.is_none() }, "{what}: {reason:?}");
        }
    }
}

#[tokio::test]
async fn a_refusal_of_qos_2_ends_its_delivery() {
    let house = Running::plain().await;
    let mut writer = house.client(Level::V5, "writer").await;
    let mut client = house.connect(&Connect::new(Level::V5, "c").lasting()).await;
    client.subscribe("a", 2).await;
    writer.publish_with("a", "x", 4, &[]).await;
    let [high, low] = client.message().await.id.to_be_bytes();
    client.send(&[0x50, 4, high, low, 0x80, 0]).await;
    client.is_quiet().await;
    assert_eq!(house.stats().queued_bytes, 0);
    client.disconnect().await;
    let mut again = house.connect(&Connect::new(Level::V5, "c").lasting()).await;
    again.is_quiet().await;
}

#[tokio::test]
async fn the_longest_topic_arrives() {
    let house = Running::plain().await;
    let topic = format!("l/{}", "x".repeat(65_000));
    for level in BOTH {
        let mut writer = house.client(level, "writer").await;
        let mut client = house.client(level, "c").await;
        assert_eq!(client.subscribe(&topic, 0).await, 0);
        writer.publish(&topic, "").await;
        assert_eq!(client.message().await.topic, topic);
    }
}

#[tokio::test]
async fn properties_of_every_request_are_taken() {
    let house = Running::plain().await;
    let user = [&[38][..], &string("k"), &string("v")].concat();
    let twice = [&user[..], &user].concat();
    let mut client =
        house.connect(&Connect::new(Level::V5, "c").properties(&[25, 1]).properties(&twice)).await;
    assert_eq!(client.subscribe_with("a", 1, &twice).await, 1);
    let length = twice.len() as u8;
    client.send(&packet(0xA2, &[&[0, 8, length][..], &twice, &string("a")].concat())).await;
    assert_eq!(client.next().await.body, [0, 8, 0, 0]);
    client.send(&packet(0xE0, &[&[0, length][..], &twice].concat())).await;
    assert_eq!(client.ending().await, None);
}
