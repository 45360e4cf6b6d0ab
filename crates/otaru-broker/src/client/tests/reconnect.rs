//! Connections that are lost and come back.

use super::*;

#[tokio::test]
async fn what_was_subscribed_to_is_subscribed_to_again() {
    for version in [MqttVersion::V5, MqttVersion::V311] {
        let fake = Fake::start().await;
        let (mut mqtt, mut peer) = pair(&fake, version, quick()).await;
        subscribed(&mqtt, &mut peer, "a").await;
        subscribed(&mqtt, &mut peer, "b/+").await;
        drop(peer);
        assert_eq!(lost(&mut mqtt).await, "the broker closed the connection");
        let mut peer = fake.let_in().await;
        assert_eq!(peer.grant().await, "a");
        // It is back when all of it is granted.
        peer.message("a", None, b"early").await;
        assert_eq!(next_message(&mut mqtt).await.payload, b"early");
        assert_eq!(peer.grant().await, "b/+");
        assert!(matches!(next(&mut mqtt).await, Incoming::Back));
        peer.message("b/c", None, b"x").await;
        assert_eq!(next_message(&mut mqtt).await.topic, "b/c");
    }
}

#[tokio::test]
async fn a_subscription_that_is_not_granted_any_more_is_a_loss() {
    let fake = Fake::start().await;
    let (mut mqtt, mut peer) = pair(&fake, MqttVersion::V5, quick()).await;
    subscribed(&mqtt, &mut peer, "a").await;
    drop(peer);
    lost(&mut mqtt).await;
    fake.let_in().await.answer_subscribe(0x87).await;
    assert_eq!(lost(&mut mqtt).await, "the broker turned down a (not authorized)");
    fake.let_in().await.grant().await;
    assert!(matches!(next(&mut mqtt).await, Incoming::Back));
}

#[tokio::test]
async fn a_subscription_that_was_never_granted_is_not_asked_for_again() {
    let fake = Fake::start().await;
    let (mut mqtt, mut peer) = pair(&fake, MqttVersion::V5, quick()).await;
    let (granted, _) = tokio::join!(mqtt.subscribe("a"), peer.answer_subscribe(0x87));
    granted.unwrap_err();
    drop(peer);
    lost(&mut mqtt).await;
    let _peer = fake.let_in().await;
    assert!(matches!(next(&mut mqtt).await, Incoming::Back));
}

#[tokio::test]
async fn what_is_published_meanwhile_fails() {
    let fake = Fake::start().await;
    let (mut mqtt, mut peer) = pair(&fake, MqttVersion::V5, quick()).await;
    let lose = async {
        peer.published().await;
        drop(peer);
    };
    let (published, ()) = tokio::join!(mqtt.publish("a", "x", false), lose);
    let text = published.unwrap_err().to_string();
    assert!(text.contains("was lost before it took a"), "{text}");
    lost(&mut mqtt).await;
    mqtt.publish("a", "x", false).await.unwrap_err();
    let mut peer = fake.let_in().await;
    assert!(matches!(next(&mut mqtt).await, Incoming::Back));
    let answer = async {
        let [high, low] = peer.published().await;
        peer.send(&[0x40, 2, high, low]).await;
    };
    let (published, ()) = tokio::join!(mqtt.publish("a", "x", false), answer);
    published.unwrap();
}

#[tokio::test]
async fn a_version_that_the_broker_told_is_kept_and_a_guess_is_not() {
    // It says that it does not speak 5.
    let fake = Fake::start().await;
    let url = fake.url(MqttVersion::Auto);
    let tell = async {
        fake.accept().await.send(&[0x20, 2, 0, 1]).await;
        fake.let_in().await
    };
    let (mqtt, peer) = tokio::join!(Mqtt::connect_at(&url, "test", quick()), tell);
    let mut mqtt = mqtt.unwrap();
    assert_eq!(mqtt.version(), Version::V311);
    drop(peer);
    lost(&mut mqtt).await;
    assert_eq!(fake.let_in().await.version, Version::V311);
    // It only closed.
    let fake = Fake::start().await;
    let url = fake.url(MqttVersion::Auto);
    let close = async {
        drop(fake.accept().await);
        drop(fake.accept().await);
        fake.let_in().await
    };
    let (mqtt, peer) = tokio::join!(Mqtt::connect_at(&url, "test", quick()), close);
    let mut mqtt = mqtt.unwrap();
    assert_eq!(mqtt.version(), Version::V311);
    drop(peer);
    lost(&mut mqtt).await;
    let _peer = fake.let_in().await;
    assert!(matches!(next(&mut mqtt).await, Incoming::Back));
    assert_eq!(mqtt.version(), Version::V5);
}

#[tokio::test]
async fn it_ends_while_the_broker_is_away() {
    let fake = Fake::start().await;
    let (mut mqtt, peer) = pair(&fake, MqttVersion::V5, quick()).await;
    drop((peer, fake));
    lost(&mut mqtt).await;
    let publisher = mqtt.publisher();
    timeout(LIMIT, mqtt.disconnect()).await.unwrap();
    publisher.publish("a", b"x", false, None).await.unwrap_err();
}
