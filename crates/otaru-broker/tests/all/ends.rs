//! Ends from outside.

use otaru_broker::{EndOptions, Reason, Settings};

use crate::client::{BOTH, Connect, Level};
use crate::house::{House, Running};

#[tokio::test]
async fn an_identity_that_ends_has_no_connection_and_no_session() {
    let house = Running::plain().await;
    for level in BOTH {
        let mut listener = house.client(level, "listener").await;
        listener.subscribe("#", 0).await;
        let mut clients = Vec::new();
        for name in ["one", "two"] {
            let connect = Connect::new(level, name).user("device").lasting().will("device/online", "offline");
            let mut client = house.connect(&connect).await;
            client.subscribe("device/update", 1).await;
            clients.push(client);
        }
        let bystander = house.connect(&Connect::new(level, "one").user("bystander")).await;
        let delayed = Connect::new(Level::V5, "three").user("device").lasting().will("device/online", "late");
        drop(house.connect(&delayed.will_properties(&[24, 0, 0, 0, 1])).await);
        house.until("lost", |stats| stats.connections == 4).await;
        assert_eq!(house.end("device"), 2);
        assert_eq!(house.stats().connections, 2, "at once");
        // What they send from now on counts for nothing.
        let bytes = clients[0].publish_bytes("device/status", b"still here", 0, 0, &[]);
        clients[0].try_send(&bytes).await;
        for client in &mut clients {
            assert_eq!(client.ending().await, (level == Level::V5).then_some(0x98));
        }
        listener.is_quiet().await;
        bystander.disconnect().await;
        let again = house.connect(&Connect::new(level, "one").user("device").lasting()).await;
        assert_eq!(again.connack[0], 0, "nothing was kept");
        assert_eq!(house.end("device"), 1);
    }
}

#[tokio::test]
async fn wills_are_published_and_reasons_chosen_if_asked_for() {
    let house = Running::plain().await;
    let mut listener = house.client(Level::V5, "listener").await;
    listener.subscribe("#", 0).await;
    let mut client = house.connect(&Connect::new(Level::V5, "a").user("me").will("w", "over")).await;
    let options = EndOptions { reason: Reason::NotAuthorized, publish_wills: true };
    house.broker.end(|identity| identity == "me", options);
    assert_eq!((client.ending().await, listener.message().await.payload.as_str()), (Some(0x87), "over"));
    let line = "- me a Some(NotAuthorized)".to_owned();
    assert!(house.events().contains(&line), "{:?}", house.events());
}

#[tokio::test]
async fn whoever_is_ended_says_nothing_more_that_it_may_not() {
    let house = Running::plain().await;
    let mut listener = house.client(Level::V5, "listener").await;
    listener.subscribe("#", 0).await;
    let mut said = Vec::new();
    for (client, topic) in [("a", "device/online"), ("b", "device/status")] {
        let connect = Connect::new(Level::V5, client).user("device").will(topic, "over");
        said.push(house.connect(&connect).await);
    }
    let options = EndOptions { reason: Reason::NotAuthorized, publish_wills: true };
    assert_eq!(house.broker.end(|identity| identity == "device", options), 2);
    assert_eq!(listener.message().await.topic, "device/online");
    listener.is_quiet().await;
}

#[tokio::test]
async fn a_login_under_way_does_not_outlive_an_end() {
    let policy = House::default().closed();
    let gate = policy.gate.clone();
    let house = Running::start(policy, Settings::default()).await;
    for level in BOTH {
        let mut caught = house.open(level).await;
        caught.send(&Connect::new(level, "a").user("me").bytes()).await;
        let mut other = house.open(level).await;
        other.send(&Connect::new(level, "a").user("you").bytes()).await;
        house.until("being decided", |stats| stats.logins == 2).await;
        house.end("me");
        gate.add_permits(2);
        let refused = if level == Level::V5 { 0x87 } else { 5 };
        assert_eq!(caught.next().await.body[1], refused);
        assert_eq!(other.next().await.body[1], 0);
        assert_eq!(house.stats().logins, 0);
        gate.add_permits(1);
        assert_eq!(house.client(level, "a").await.connack[1], 0, "later ones come in");
        other.disconnect().await;
    }
}

#[tokio::test]
async fn all_end_when_the_broker_stops() {
    let house = Running::plain().await;
    let mut silent = house.open(Level::V5).await;
    let mut new = house.client(Level::V5, "new").await;
    let mut old = house.client(Level::V311, "old").await;
    house.until("all there", |stats| stats.strangers == 1 && stats.connections == 2).await;
    let stopping = house.broker.stop();
    let (stopped, new, old, silent) = tokio::join!(stopping, new.ending(), old.ending(), silent.ending());
    assert_eq!((stopped, new, old, silent), ((), Some(0x8B), None, None));
}

#[tokio::test]
async fn a_login_under_way_when_the_broker_stops_is_told_that_it_is_not_available() {
    for (level, code) in [(Level::V5, 0x88), (Level::V311, 3)] {
        let policy = House::default().closed();
        let gate = policy.gate.clone();
        let house = Running::start(policy, Settings::default()).await;
        let mut caught = house.open(level).await;
        caught.send(&Connect::new(level, "a").bytes()).await;
        house.until("being decided", |stats| stats.logins == 1).await;
        let answer = async {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            gate.add_permits(1);
            caught.next().await.body[1]
        };
        let ((), answer) = tokio::join!(house.broker.stop(), answer);
        assert_eq!(answer, code);
        assert!(house.events().contains(&"x a ServerShuttingDown".to_owned()), "{:?}", house.events());
    }
}

#[tokio::test]
async fn very_many_end_together_and_a_wish_finds_those_it_describes() {
    let house = Running::plain().await;
    let mut clients = Vec::new();
    for number in 0..150 {
        let user = format!("device-{number}");
        clients.push(house.connect(&Connect::new(Level::V5, "c").user(&user).lasting()).await);
    }
    let mut stays = house.connect(&Connect::new(Level::V5, "c").user("other")).await;
    let half = (0..100).map(|number| format!("device-{number}"));
    assert_eq!(house.broker.end_identities(half.chain(["nobody".into()]), EndOptions::default()), 100);
    assert_eq!(house.broker.end(|who| who.starts_with("device"), EndOptions::default()), 50);
    assert_eq!(house.stats().sessions, 1);
    for client in &mut clients {
        assert_eq!(client.ending().await, Some(0x98));
    }
    stays.send(&[0xC0, 0]).await;
    assert_eq!(stays.next().await.first, 0xD0);
}
