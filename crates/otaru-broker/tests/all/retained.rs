//! Retained messages.

use crate::client::{BOTH, Connect, Level};
use crate::house::Running;

#[tokio::test]
async fn a_new_subscription_brings_them_and_an_empty_one_takes_them_away() {
    let house = Running::plain().await;
    for level in BOTH {
        let mut writer = house.client(level, "writer").await;
        for topic in ["r/a", "r/b", "r/b/c", "q"] {
            writer.publish_with(topic, topic, 3, &[]).await;
        }
        let mut reader = house.client(level, "reader").await;
        for (filter, wanted) in [
            ("r/a", &["r/a"][..]),
            ("r/+", &["r/a", "r/b"]),
            ("r/#", &["r/a", "r/b", "r/b/c"]),
            ("+", &["q"]),
            ("+/b", &["r/b"]),
            ("nothing", &[]),
        ] {
            reader.subscribe(filter, 1).await;
            for topic in wanted {
                let message = reader.message().await;
                assert_eq!(
                    (message.topic.as_str(), message.retain, message.qos),
                    (*topic, true, 1),
                    "{filter}"
                );
                reader.puback(message.id).await;
            }
            reader.is_quiet().await;
            reader.unsubscribe(filter).await;
        }
        for topic in ["r/a", "r/b", "r/b/c", "q"] {
            writer.publish_with(topic, "", 1, &[]).await;
        }
        reader.subscribe("#", 0).await;
        reader.is_quiet().await;
        let stats = house.stats();
        assert_eq!((stats.retained, stats.retained_bytes, stats.queued_bytes), (0, 0, 0));
    }
}

#[tokio::test]
async fn retain_handling() {
    let house = Running::plain().await;
    let mut client = house.client(Level::V5, "a").await;
    client.publish_with("a", "kept", 3, &[]).await;
    client.subscribe("a", 0x20).await;
    client.is_quiet().await;
    client.subscribe("a", 0x10).await;
    client.is_quiet().await;
    client.unsubscribe("a").await;
    client.subscribe("a", 0x10).await;
    assert_eq!(client.message().await.payload, "kept");
    client.subscribe("a", 0x00).await;
    assert_eq!(client.message().await.payload, "kept");
    client.is_quiet().await;
}

#[tokio::test]
async fn thousands_arrive_without_being_queued() {
    let house = Running::plain().await;
    let mut writer = house.client(Level::V5, "writer").await;
    let payload = "x".repeat(600);
    for number in 0..3000 {
        let bytes = writer.publish_bytes(&format!("r/{number:04}/s"), payload.as_bytes(), 3, 9, &[]);
        writer.send(&bytes).await;
        assert_eq!(writer.next().await.first, 0x40);
    }
    for (qos, most) in [(0, 0), (1, 64)] {
        let mut reader = house.client(Level::V5, "reader").await;
        reader.subscribe("r/+/s", qos).await;
        for number in 0..3000 {
            let message = reader.message().await;
            assert_eq!(message.topic, format!("r/{number:04}/s"));
            assert!(house.stats().queued_bytes <= most * 1000);
            if qos > 0 {
                reader.puback(message.id).await;
            }
        }
        reader.is_quiet().await;
    }
}

#[tokio::test]
async fn a_session_goes_on_with_them_where_its_connection_ended() {
    let house = Running::plain().await;
    for level in BOTH {
        let mut writer = house.client(level, "writer").await;
        for number in 0..100 {
            writer.publish_with(&format!("r/{number:02}"), "x", 3, &[]).await;
        }
        let mut reader = house.connect(&Connect::new(level, "reader").lasting()).await;
        reader.subscribe("r/+", 1).await;
        for _ in 0..10 {
            let message = reader.message().await;
            reader.puback(message.id).await;
        }
        drop(reader);
        let mut reader = house.connect(&Connect::new(level, "reader").lasting()).await;
        let mut last = String::new();
        while last != "r/99" {
            let message = reader.message().await;
            assert!(message.topic > last);
            reader.puback(message.id).await;
            last = message.topic;
        }
        reader.is_quiet().await;
        drop(reader);
        house.connect(&Connect::new(level, "reader")).await.disconnect().await;
    }
}

#[tokio::test]
async fn a_device_that_retires_leaves_nothing() {
    let house = Running::plain().await;
    let mut writer = house.client(Level::V5, "writer").await;
    for topic in ["base/lamp/status", "base/lamp/online", "base/lamp2/status"] {
        writer.publish_with(topic, "x", 3, &[2, 0, 0, 1, 0]).await;
    }
    assert_eq!(house.broker.forget_retained("base/lamp/"), 2);
    assert_eq!(house.stats().retained, 1);
    writer.subscribe("#", 0).await;
    assert_eq!(writer.message().await.topic, "base/lamp2/status");
    writer.is_quiet().await;
}
