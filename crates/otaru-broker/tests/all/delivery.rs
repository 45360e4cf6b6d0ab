//! Delivery of messages: QoS 0, 1 and 2 in both directions, repetitions, windows, orders.

use crate::client::{BOTH, Connect, Level};
use crate::house::{House, Running};
use otaru_broker::Settings;

#[tokio::test]
async fn every_guarantee_between_every_two_versions() {
    let house = Running::plain().await;
    for from in BOTH {
        for to in BOTH {
            for published in 0..3_u8 {
                for granted in 0..3_u8 {
                    let mut reader = house.client(to, "reader").await;
                    let mut writer = house.client(from, "writer").await;
                    assert_eq!(reader.subscribe("a/b", granted).await, granted);
                    assert_eq!(writer.publish_with("a/b", "hi", published << 1, &[]).await, 0);
                    let message = reader.message().await;
                    assert_eq!((message.payload.as_str(), message.topic.as_str()), ("hi", "a/b"));
                    assert_eq!(message.qos, published.min(granted));
                    assert_eq!((message.retain, message.repeated), (false, false));
                    let [high, low] = message.id.to_be_bytes();
                    match message.qos {
                        0 => {}
                        1 => reader.puback(message.id).await,
                        _ => {
                            reader.send(&[0x50, 2, high, low]).await;
                            assert_eq!(reader.next().await.body, [high, low]);
                            reader.send(&[0x70, 2, high, low]).await;
                        }
                    }
                    reader.is_quiet().await;
                    assert_eq!(house.stats().queued_bytes, 0);
                }
            }
        }
    }
}

#[tokio::test]
async fn a_message_of_qos_2_that_is_sent_again_comes_once() {
    let house = Running::plain().await;
    for level in BOTH {
        let mut reader = house.client(level, "reader").await;
        reader.subscribe("a", 0).await;
        let mut writer = house.connect(&Connect::new(level, "writer").lasting()).await;
        let first = writer.publish_bytes("a", b"once", 4, 5, &[]);
        writer.send(&first).await;
        assert_eq!(writer.next().await.body, [0, 5]);
        drop(writer);
        let mut writer = house.connect(&Connect::new(level, "writer").lasting()).await;
        assert_eq!(writer.connack[0], 1, "the session is there");
        let again = writer.publish_bytes("a", b"once", 12, 5, &[]);
        writer.send(&again).await;
        assert_eq!((writer.next().await.first, reader.message().await.payload.as_str()), (0x50, "once"));
        writer.send(&[0x62, 2, 0, 5]).await;
        assert_eq!(writer.next().await.body, [0, 5]);
        writer.send(&again).await;
        assert_eq!((writer.next().await.first, reader.message().await.payload.as_str()), (0x50, "once"));
        writer.send(&[0x62, 2, 0, 5]).await;
        writer.next().await;
        reader.is_quiet().await;
        writer.disconnect().await;
        house.connect(&Connect::new(level, "writer")).await.disconnect().await;
    }
}

#[tokio::test]
async fn what_was_not_acknowledged_comes_again_after_a_reconnect() {
    let house = Running::plain().await;
    for level in BOTH {
        let mut reader = house.connect(&Connect::new(level, "reader").lasting()).await;
        reader.subscribe("a", 2).await;
        let mut writer = house.client(level, "writer").await;
        for (payload, flags) in [("one", 2), ("two", 4), ("three", 4)] {
            writer.publish_with("a", payload, flags, &[]).await;
        }
        let [one, two, three] = [reader.message().await, reader.message().await, reader.message().await];
        let [high, low] = three.id.to_be_bytes();
        reader.send(&[0x50, 2, high, low]).await;
        assert_eq!(reader.next().await.first, 0x62);
        drop(reader);
        let mut reader = house.connect(&Connect::new(level, "reader").lasting()).await;
        let again = reader.message().await;
        assert_eq!((again.repeated, again.id, &again.payload), (true, one.id, &one.payload));
        let again = reader.message().await;
        assert_eq!((again.repeated, again.id, &again.payload), (true, two.id, &two.payload));
        let released = reader.next().await;
        assert_eq!((released.first, &released.body[..]), (0x62, &[high, low][..]), "and no PUBLISH");
        reader.disconnect().await;
        house.connect(&Connect::new(level, "reader")).await.disconnect().await;
        assert_eq!(house.stats().queued_bytes, 0);
    }
}

#[tokio::test]
async fn no_more_is_under_way_than_the_client_wants() {
    let house = Running::plain().await;
    let mut reader = house.connect(&Connect::new(Level::V5, "reader").properties(&[33, 0, 2])).await;
    reader.subscribe("a", 1).await;
    let mut writer = house.client(Level::V5, "writer").await;
    for payload in ["1", "2", "3", "4"] {
        writer.publish_with("a", payload, 2, &[]).await;
    }
    let [one, two] = [reader.message().await, reader.message().await];
    assert_eq!((one.payload.as_str(), two.payload.as_str()), ("1", "2"));
    reader.is_quiet().await;
    reader.puback(two.id).await;
    assert_eq!(reader.message().await.payload, "3");
    reader.is_quiet().await;
    reader.puback(one.id).await;
    assert_eq!(reader.message().await.payload, "4");
}

#[tokio::test]
async fn a_client_with_more_under_way_than_it_was_told_is_ended() {
    let settings = Settings { receive_maximum: 3, receive_maximum_311: 5, ..Settings::default() };
    let house = Running::start(House::default(), settings).await;
    for (level, most, reason) in [(Level::V5, 3, Some(0x93)), (Level::V311, 5, None)] {
        let mut writer = house.client(level, "writer").await;
        for id in 1..=most + 1 {
            let bytes = writer.publish_bytes("a", b"x", 4, id, &[]);
            writer.send(&bytes).await;
        }
        for _ in 0..most {
            assert_eq!(writer.next().await.first, 0x50);
        }
        assert_eq!(writer.ending().await, reason);
    }
}

#[tokio::test]
async fn unknown_identifiers_are_answered() {
    let house = Running::plain().await;
    let mut new = house.client(Level::V5, "new").await;
    new.send(&[0x62, 2, 0, 7]).await;
    assert_eq!(&new.next().await.body[..3], [0, 7, 0x92]);
    new.send(&[0x50, 2, 0, 7]).await;
    let answer = new.next().await;
    assert_eq!((answer.first, &answer.body[..3]), (0x62, &[0, 7, 0x92][..]));
    new.send(&[0x40, 2, 0, 7, 0x70, 2, 0, 7]).await;
    new.is_quiet().await;
    let mut old = house.client(Level::V311, "old").await;
    old.send(&[0x62, 2, 0, 7]).await;
    assert_eq!(old.next().await.body, [0, 7]);
}

#[tokio::test]
async fn a_publish_that_is_not_allowed_is_told_in_5_and_dropped_in_3_1_1() {
    let house = Running::plain().await;
    let mut listener = house.client(Level::V5, "listener").await;
    listener.subscribe("#", 0).await;
    for (level, reason) in [(Level::V5, 0x87), (Level::V311, 0)] {
        let mut viewer = house.connect(&Connect::new(level, "v").user("viewer")).await;
        assert_eq!(viewer.publish_with("a", "no", 2, &[]).await, reason);
        assert_eq!(viewer.publish_with("a", "no", 4, &[]).await, reason);
        viewer.publish("a", "no").await;
    }
    listener.is_quiet().await;
}

#[tokio::test]
async fn messages_stay_in_order() {
    let house = Running::plain().await;
    let mut reader = house.client(Level::V5, "reader").await;
    reader.subscribe("a", 1).await;
    let mut writer = house.client(Level::V5, "writer").await;
    let mut bytes = Vec::new();
    for number in 0..500_u16 {
        bytes.extend(writer.publish_bytes("a", number.to_string().as_bytes(), 2, number + 1, &[]));
    }
    writer.send(&bytes).await;
    for number in 0..500 {
        let message = reader.message().await;
        assert_eq!(message.payload, number.to_string());
        reader.puback(message.id).await;
    }
}
