//! Sessions: kept, taken up, expired, taken over; and never another identity's.

use std::time::Duration;

use otaru_broker::Settings;

use crate::client::{BOTH, Connect, Level};
use crate::house::{House, Running};

#[tokio::test]
async fn messages_wait_for_a_session_without_a_connection() {
    let house = Running::plain().await;
    for level in BOTH {
        let mut reader = house.connect(&Connect::new(level, "reader").lasting()).await;
        assert_eq!(reader.connack[0], 0);
        reader.subscribe("a", 1).await;
        reader.disconnect().await;
        let mut writer = house.client(level, "writer").await;
        for (payload, flags) in [("zero", 0), ("one", 2), ("two", 4)] {
            writer.publish_with("a", payload, flags, &[]).await;
        }
        let mut reader = house.connect(&Connect::new(level, "reader").lasting()).await;
        assert_eq!(reader.connack[0], 1);
        for payload in ["one", "two"] {
            let message = reader.message().await;
            assert_eq!((message.payload.as_str(), message.qos), (payload, 1));
            reader.puback(message.id).await;
        }
        reader.is_quiet().await;
        reader.disconnect().await;
        let mut reader = house.connect(&Connect::new(level, "reader")).await;
        assert_eq!(reader.connack[0], 0, "a clean one");
        writer.publish_with("a", "three", 2, &[]).await;
        reader.is_quiet().await;
        assert_eq!(house.stats().queued_bytes, 0);
    }
}

#[tokio::test]
async fn a_session_lives_as_long_as_it_was_told() {
    let house = Running::plain().await;
    let brief = Connect { clean: false, ..Connect::new(Level::V5, "a") }.properties(&[17, 0, 0, 0, 1]);
    house.connect(&brief).await.disconnect().await;
    assert_eq!(house.stats().sessions, 1);
    house.until("expired", |stats| stats.sessions == 0).await;
    let without = Connect { clean: false, ..Connect::new(Level::V5, "a") };
    house.connect(&without).await.disconnect().await;
    assert_eq!(house.stats().sessions, 0, "it ends with its connection");
    let mut client = house.connect(&brief).await;
    client.send(&[0xE0, 7, 0, 5, 17, 0, 0, 0, 0]).await;
    assert_eq!((client.ending().await, house.stats().sessions), (None, 0), "a goodbye may end it");
    let mut client = house.connect(&without.will("will", "x")).await;
    client.send(&[0xE0, 7, 0, 5, 17, 0, 0, 0, 9]).await;
    assert_eq!((client.ending().await, house.stats().sessions), (Some(0x82), 0), "but not make it last");
}

#[tokio::test]
async fn sessions_of_3_1_1_have_an_end_here() {
    let settings = Settings { max_session_expiry: Duration::from_secs(1), ..Settings::default() };
    let house = Running::start(House::default(), settings).await;
    house.connect(&Connect::new(Level::V311, "a").lasting()).await.disconnect().await;
    house.until("expired", |stats| stats.sessions == 0).await;
}

#[tokio::test]
async fn a_client_id_is_taken_over_within_its_identity_only() {
    let house = Running::plain().await;
    for level in BOTH {
        let connect = |user: &str| Connect::new(level, "same").user(user).lasting();
        let mut mine = house.connect(&connect("me")).await;
        mine.subscribe("a", 1).await;
        let mut theirs = house.connect(&connect("you")).await;
        assert_eq!(theirs.connack[0], 0, "no session of mine");
        theirs.publish_with("a", "hi", 2, &[]).await;
        assert_eq!(mine.message().await.payload, "hi", "and I am still here");
        let mut again = house.connect(&connect("me")).await;
        assert_eq!(mine.ending().await, (level == Level::V5).then_some(0x8E));
        assert_eq!((again.connack[0], again.message().await.payload.as_str()), (1, "hi"));
        assert!(house.events().contains(&"+ me same again".to_owned()));
        for user in ["me", "you"] {
            house.connect(&Connect::new(level, "same").user(user)).await.disconnect().await;
        }
        house.until_empty().await;
    }
}

#[tokio::test]
async fn subscriptions_that_an_identity_may_no_longer_have_do_not_come_back() {
    let house = Running::plain().await;
    let mut reader = house.connect(&Connect::new(Level::V5, "r").lasting()).await;
    reader.subscribe("secret/a", 1).await;
    assert_eq!(house.stats().subscriptions, 1);
    drop(reader);
    let mut other = house.connect(&Connect::new(Level::V5, "r").user("other").lasting()).await;
    assert_eq!((other.connack[0], other.subscribe("secret/a", 1).await), (0, 0x87));
}
