//! Properties of 5 and options of subscriptions.

use std::time::Duration;

use crate::client::{BOTH, Connect, Level, binary, packet, string};
use crate::house::Running;

#[tokio::test]
async fn properties_go_on_unchanged_and_nothing_is_added() {
    let house = Running::plain().await;
    let properties = [
        &[1, 1, 3][..],
        &string("text/plain"),
        &[8],
        &string("answers/here"),
        &[9],
        &binary(b"\0\xFF"),
        &[38],
        &string("key"),
        &string("one"),
        &[38],
        &string("key"),
        &string("two"),
    ]
    .concat();
    let mut reader = house.client(Level::V5, "reader").await;
    reader.subscribe("a", 1).await;
    let mut old = house.client(Level::V311, "old").await;
    old.subscribe("a", 1).await;
    house.client(Level::V5, "writer").await.publish_with("a", "hi", 2, &properties).await;
    assert_eq!(reader.message().await.properties, properties);
    assert_eq!(old.message().await.payload, "hi");
    house.client(Level::V311, "older").await.publish_with("a", "hi", 2, &[]).await;
    assert_eq!(reader.message().await.properties, [0_u8; 0]);
}

#[tokio::test]
async fn the_remaining_life_of_a_message_is_told_and_its_end_kept() {
    let house = Running::plain().await;
    let mut writer = house.client(Level::V5, "writer").await;
    writer.publish_with("a", "long", 3, &[2, 0, 0, 0, 100]).await;
    writer.publish_with("b", "short", 3, &[2, 0, 0, 0, 1]).await;
    let reader = house.connect(&Connect::new(Level::V5, "late").lasting()).await;
    let mut reader = reader;
    reader.subscribe_with("c", 1, &[]).await;
    drop(reader);
    house.until("without the reader", |stats| stats.connections == 1).await;
    writer.publish_with("c", "gone", 2, &[2, 0, 0, 0, 1]).await;
    writer.publish_with("c", "there", 2, &[]).await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    house.until("without the short one", |stats| stats.retained == 1).await;
    let mut reader = house.connect(&Connect::new(Level::V5, "late").lasting()).await;
    assert_eq!(reader.message().await.payload, "there");
    reader.subscribe("#", 0).await;
    let message = reader.message().await;
    assert_eq!(message.payload, "long");
    assert_eq!(message.properties[..4], [2, 0, 0, 0]);
    assert!((1..100).contains(&message.properties[4]), "{:?}", message.properties);
    reader.is_quiet().await;
}

#[tokio::test]
async fn overlapping_subscriptions_bring_one_copy_with_all_identifiers() {
    let house = Running::plain().await;
    let mut reader = house.client(Level::V5, "reader").await;
    reader.subscribe_with("a/b", 0, &[11, 3]).await;
    reader.subscribe_with("a/+", 2, &[11, 200, 1]).await;
    reader.subscribe("#", 1).await;
    house.client(Level::V5, "writer").await.publish_with("a/b", "hi", 4, &[]).await;
    let message = reader.message().await;
    assert_eq!((message.qos, &message.properties[..]), (2, &[11, 3, 11, 200, 1][..]));
    reader.is_quiet().await;
    let mut old = house.client(Level::V311, "old").await;
    old.subscribe("x/#", 0).await;
    old.subscribe("x/y", 1).await;
    house.client(Level::V5, "writer").await.publish_with("x/y", "hi", 2, &[]).await;
    assert_eq!(old.message().await.qos, 1);
    old.is_quiet().await;
}

#[tokio::test]
async fn no_local_and_retain_as_published() {
    let house = Running::plain().await;
    let mut one = house.client(Level::V5, "one").await;
    one.subscribe("a", 4).await;
    one.publish_with("a", "mine", 3, &[]).await;
    one.is_quiet().await;
    let mut two = house.client(Level::V5, "two").await;
    two.subscribe("a", 8).await;
    assert!(two.message().await.retain);
    house.client(Level::V5, "three").await.publish_with("a", "other", 1, &[]).await;
    assert!(!one.message().await.retain);
    assert!(two.message().await.retain, "as it was published");
    two.publish_with("a", "plain", 0, &[]).await;
    // Its own message comes before the answer to its ping; both were read by now.
    assert_eq!(one.message().await.payload, "plain");
}

#[tokio::test]
async fn packets_above_the_clients_maximum_are_not_sent() {
    let house = Running::plain().await;
    let mut reader = house.connect(&Connect::new(Level::V5, "r").properties(&[39, 0, 0, 0, 60])).await;
    reader.subscribe("a", 1).await;
    let mut writer = house.client(Level::V5, "writer").await;
    writer.publish_with("a", &"x".repeat(60), 2, &[]).await;
    writer.publish_with("a", "small", 2, &[]).await;
    let message = reader.message().await;
    assert_eq!(message.payload, "small");
    reader.puback(message.id).await;
    reader.is_quiet().await;
    assert_eq!(house.stats().queued_bytes, 0);
    // A reason that does not fit is told by its number.
    let mut viewer =
        house.connect(&Connect::new(Level::V5, "v").user("viewer").properties(&[39, 0, 0, 0, 30])).await;
    let bytes = viewer.publish_bytes("a", b"x", 2, 9, &[]);
    viewer.send(&bytes).await;
    assert_eq!(viewer.next().await.body, [0, 9, 0x87, 0]);
}

#[tokio::test]
async fn subscriptions_are_answered_one_by_one() {
    let house = Running::plain().await;
    for level in BOTH {
        let code = |code: u8| if level == Level::V5 { code } else { 0x80 };
        let mut client = house.connect(&Connect::new(level, "a").user("other")).await;
        assert_eq!(client.subscribe("secret/a", 1).await, code(0x87));
        assert_eq!(client.subscribe("a/#/b", 1).await, code(0x8F));
        assert_eq!(client.subscribe(&"/".repeat(200), 1).await, code(0x8F));
        assert_eq!(client.subscribe("$share/g/a", 1).await, code(0x9E));
        assert_eq!(client.subscribe("a", 2).await, 2);
        let codes = |code: u8| if level == Level::V5 { vec![0, code] } else { vec![] };
        assert_eq!(client.unsubscribe("a").await, codes(0));
        assert_eq!(client.unsubscribe("a").await, codes(0x11));
        client.publish("a", "nobody").await;
    }
}

#[tokio::test]
async fn topics_of_the_broker_are_hidden_from_leading_wildcards() {
    let house = Running::plain().await;
    for level in BOTH {
        let mut client = house.client(level, "a").await;
        client.subscribe("#", 0).await;
        client.subscribe("+/x", 0).await;
        client.publish("$other/x", "hidden").await;
        client.subscribe("$other/#", 0).await;
        let bytes = client.publish_bytes("$other/x", b"seen", 0, 0, &[]);
        client.send(&bytes).await;
        assert_eq!(client.message().await.payload, "seen");
        client.is_quiet().await;
    }
}

#[tokio::test]
async fn a_client_never_gets_a_packet_that_is_longer_than_it_takes() {
    let house = Running::plain().await;
    // Maximum packet size (39): too little for a CONNACK with the terms.
    for (client, bytes) in [("small", 25), ("", 53)] {
        let connect = Connect::new(Level::V5, client).properties(&[39, 0, 0, 0, bytes]);
        let refused = house.try_connect(&connect).await;
        assert_eq!(refused.connack, [0, 0x95, 0], "a refusal without a sentence");
    }
    let mut nameless = house.connect(&Connect::new(Level::V5, "").properties(&[39, 0, 0, 0, 54])).await;
    nameless.subscribe("a", 0).await;
    // A SUBACK for 30 filters has 35 bytes.
    let mut small = house.connect(&Connect::new(Level::V5, "small").properties(&[39, 0, 0, 0, 26])).await;
    let filters: Vec<u8> = (0..30).flat_map(|_| [&string("a")[..], &[0]].concat()).collect();
    small.send(&packet(0x82, &[&[0, 1, 0][..], &filters].concat())).await;
    let heard = small.next().await;
    assert_eq!((heard.first, heard.body), (0xE0, vec![0x95, 0]));
}
