//! Wills.

use crate::client::{BOTH, Client, Connect, Level};
use crate::house::Running;

/// Connects somebody who hears wills.
async fn listener(house: &Running, level: Level) -> Client {
    let mut client = house.client(level, "listener").await;
    client.subscribe("will", 2).await;
    client
}

#[tokio::test]
async fn a_loss_publishes_the_will_and_a_goodbye_does_not() {
    let house = Running::plain().await;
    for level in BOTH {
        let mut listener = listener(&house, level).await;
        let mut connect = Connect::new(level, "a").will("will", "lost");
        connect.will.as_mut().unwrap().flags = 0x28;
        house.connect(&connect).await.disconnect().await;
        listener.is_quiet().await;
        drop(house.connect(&connect).await);
        let message = listener.message().await;
        assert_eq!((message.payload.as_str(), message.qos, message.retain), ("lost", 1, false));
        assert_eq!(house.stats().retained, 1);
        if level == Level::V5 {
            let mut client = house.connect(&connect).await;
            client.send(&[0xE0, 1, 4]).await;
            assert_eq!(listener.message().await.payload, "lost", "asked for at the goodbye");
        }
        house.broker.forget_retained("will");
    }
}

#[tokio::test]
async fn a_will_waits_and_is_forgotten_when_the_client_returns() {
    let house = Running::plain().await;
    let mut listener = listener(&house, Level::V5).await;
    let late = |delay: u8| {
        let connect = Connect::new(Level::V5, "a").will("will", "lost").lasting();
        connect.will_properties(&[24, 0, 0, 0, delay, 3, 0, 1, b't'])
    };
    drop(house.connect(&late(1)).await);
    house.until("lost", |stats| stats.connections == 1).await;
    listener.is_quiet().await;
    let message = listener.message().await;
    assert_eq!((message.payload.as_str(), &message.properties[..]), ("lost", &[3, 0, 1, b't'][..]));
    drop(house.connect(&late(200)).await);
    house.until("lost", |stats| stats.connections == 1).await;
    house.connect(&Connect::new(Level::V5, "a").lasting()).await.disconnect().await;
    listener.is_quiet().await;
    drop(house.connect(&late(200)).await);
    house.until("lost", |stats| stats.connections == 1).await;
    house.connect(&Connect::new(Level::V5, "a")).await.disconnect().await;
    assert_eq!(listener.message().await.payload, "lost", "the session ended");
}

#[tokio::test]
async fn a_session_that_ends_publishes_the_will_before_its_delay() {
    let house = Running::plain().await;
    let mut listener = listener(&house, Level::V5).await;
    let connect = Connect::new(Level::V5, "a").will("will", "lost").properties(&[17, 0, 0, 0, 1]);
    drop(house.connect(&connect.will_properties(&[24, 0, 0, 255, 0])).await);
    assert_eq!(listener.message().await.payload, "lost");
    assert_eq!(house.stats().sessions, 1);
}

#[tokio::test]
async fn a_takeover_publishes_the_will_of_the_one_that_is_ended() {
    let house = Running::plain().await;
    for level in BOTH {
        let mut listener = listener(&house, level).await;
        let connect = Connect::new(level, "a").will("will", "lost").lasting();
        let _first = house.connect(&connect).await;
        let second = house.connect(&connect).await;
        assert_eq!(listener.message().await.payload, "lost");
        second.disconnect().await;
        house.connect(&Connect::new(level, "a")).await.disconnect().await;
    }
}
