//! Each bound is reached.

use std::time::Duration;

use otaru_broker::{Bounds, Group, Quota, Rate, Settings};

use crate::client::{BOTH, Client, Connect, Level, packet, string};
use crate::house::{House, Running};

fn bounds(change: impl FnOnce(&mut Bounds)) -> Bounds {
    let mut bounds = Bounds::default();
    change(&mut bounds);
    bounds
}

fn settings(change: impl FnOnce(&mut Settings)) -> Settings {
    let mut settings = Settings::default();
    change(&mut settings);
    settings
}

async fn with(user: &str, bounds: Bounds) -> Running {
    Running::start(House::default().bounds(user, bounds), Settings::default()).await
}

#[tokio::test]
async fn connections_of_an_identity_its_group_and_all() {
    let own = House::default().bounds("me", bounds(|bounds| bounds.quota.connections = 2));
    let quota = Quota { connections: 2, ..Bounds::default().quota };
    let group = House::default().group(Group { name: "key".into(), quota });
    for (policy, settings, code) in [
        (own, Settings::default(), 0x97),
        (group, Settings::default(), 0x97),
        (House::default(), settings(|settings| settings.in_all.connections = 2), 0x89),
    ] {
        let house = Running::start(policy, settings).await;
        let connect = |name: &str| Connect::new(Level::V5, name).user("me");
        let one = house.connect(&connect("1")).await;
        let _two = house.connect(&connect("2")).await;
        assert_eq!(house.try_connect(&connect("3")).await.connack[1], code);
        one.disconnect().await;
        house.until("free", |stats| stats.connections == 1).await;
        house.connect(&connect("3")).await;
    }
}

#[tokio::test]
async fn whoever_has_logged_in_counts_for_no_address() {
    let strangers = settings(|settings| {
        settings.strangers.sockets = 8;
        settings.strangers.sockets_per_address = 1;
        settings.strangers.failures_per_address = Rate { burst: 8, per_minute: 1 };
    });
    let house = Running::start(House::default(), strangers).await;
    let mut inside = Vec::new();
    for number in 0..60 {
        let user = format!("device-{number}");
        inside.push(house.connect(&Connect::new(Level::V5, "c").user(&user)).await);
    }
    for client in &mut inside {
        client.send(&[0xC0, 0]).await;
        assert_eq!(client.next().await.first, 0xD0);
    }
    assert_eq!((house.stats().connections, house.stats().strangers), (60, 0));
}

#[tokio::test]
async fn connects_of_an_identity_and_failures_of_an_address() {
    let rate = Rate { burst: 3, per_minute: 1 };
    let house = with("me", bounds(|bounds| bounds.connects = rate)).await;
    for _ in 0..3 {
        house.connect(&Connect::new(Level::V5, "a").user("me")).await.disconnect().await;
    }
    assert_eq!(house.try_connect(&Connect::new(Level::V5, "a").user("me")).await.connack[1], 0x9F);
    house.client(Level::V5, "a").await;
    // Whoever is refused for its own rate comes in vain, too.
    let both = House::default().bounds("me", bounds(|bounds| bounds.connects = rate));
    let house =
        Running::start(both, settings(|settings| settings.strangers.failures_per_address = rate)).await;
    for number in 0..6 {
        let client = house.try_connect(&Connect::new(Level::V5, "a").user("me")).await;
        assert_eq!(client.connack[1], if number < 3 { 0 } else { 0x9F });
    }
    // They were failures of the address, which nobody else comes from now; who does is told in its version.
    assert_eq!(house.try_connect(&Connect::new(Level::V5, "a").user("you")).await.connack[1], 0x9F);
    assert_eq!(house.try_connect(&Connect::new(Level::V311, "a").user("you")).await.connack[1], 3);
    let settings = settings(|settings| settings.strangers.failures_per_address = rate);
    let house = Running::start(House::default(), settings).await;
    for _ in 0..10 {
        house.client(Level::V5, "a").await.disconnect().await;
    }
    // Whoever cannot be decided on has failed as little.
    for _ in 0..10 {
        let unknown = house.try_connect(&Connect::new(Level::V5, "a").user("unknown for now")).await;
        assert_eq!(unknown.connack[1], 0x88);
    }
    for _ in 0..3 {
        let refused = house.try_connect(&Connect::new(Level::V5, "a").password("bad")).await;
        assert_eq!(refused.connack[1], 0x86);
    }
    assert_eq!(house.open(Level::V5).await.hear().await, None, "closed without a word");
}

#[tokio::test]
async fn packets_of_a_device() {
    let house = with("device", Bounds::device()).await;
    for level in BOTH {
        let mut device = house.connect(&Connect::new(level, "a").user("device")).await;
        device.publish_with("device/x", &"x".repeat(8000), 2, &[]).await;
        let large = device.publish_bytes("device/x", &[0; 8192], 2, 9, &[]);
        device.try_send(&large).await;
        assert_eq!(device.ending().await, (level == Level::V5).then_some(0x95));
    }
}

#[tokio::test]
async fn subscriptions_of_a_session() {
    let house = with("me", bounds(|bounds| bounds.subscriptions = 2)).await;
    for (level, code) in [(Level::V5, 0x97), (Level::V311, 0x80)] {
        let mut client = house.connect(&Connect::new(level, "a").user("me")).await;
        for (filter, wanted) in [("a", 0), ("b", 0), ("c", code), ("a", 0)] {
            assert_eq!(client.subscribe(filter, 0).await, wanted);
        }
        client.unsubscribe("a").await;
        assert_eq!(client.subscribe("c", 0).await, 0);
        client.disconnect().await;
        assert_eq!(house.stats().subscriptions, 0);
    }
}

#[tokio::test]
async fn sessions_of_an_identity_make_room_for_new_ones() {
    let house = with("me", bounds(|bounds| bounds.quota.sessions = 2)).await;
    let connect = |name: &str| Connect::new(Level::V5, name).user("me").lasting();
    for name in ["1", "2", "3", "4"] {
        house.connect(&connect(name)).await.disconnect().await;
    }
    assert_eq!(house.stats().sessions, 2);
    for (name, present) in [("4", 1), ("3", 1), ("2", 0)] {
        assert_eq!(house.connect(&connect(name)).await.connack[0], present, "{name}");
    }
    let _first = house.connect(&connect("a")).await;
    let _second = house.connect(&connect("b")).await;
    assert_eq!(house.try_connect(&connect("c")).await.connack[1], 0x97, "connected ones make no room");
    assert_eq!(house.stats().connections, 2);
}

#[tokio::test]
async fn retained_bytes_of_an_identity_and_of_all() {
    let few = |quota: &mut Quota| quota.retained_bytes = 1000;
    for (policy, settings) in [
        (House::default().bounds("me", bounds(|bounds| few(&mut bounds.quota))), Settings::default()),
        (House::default(), settings(|settings| few(&mut settings.in_all))),
    ] {
        let house = Running::start(policy, settings).await;
        let mut client = house.connect(&Connect::new(Level::V5, "a").user("me")).await;
        client.subscribe("#", 0).await;
        let payload = "x".repeat(500);
        let say = |client: &Client, topic: &str, payload: &str| {
            client.publish_bytes(topic, payload.as_bytes(), 3, 9, &[])
        };
        for (topic, payload, reason) in
            [("a", &*payload, 0), ("a", &payload, 0), ("b", &payload, 0x97), ("a", "", 0), ("b", &payload, 0)]
        {
            let bytes = say(&client, topic, payload);
            client.send(&bytes).await;
            let answer = client.next().await;
            assert_eq!(answer.first, 0x40);
            assert_eq!(answer.body.get(2).copied().unwrap_or(0), reason, "{topic}");
            assert_eq!(client.message().await.topic, topic, "also what is not kept is heard");
        }
        client.is_quiet().await;
        assert_eq!(house.stats().retained, 1);
    }
}

#[tokio::test]
async fn messages_for_an_absent_client_wait_only_up_to_the_bound() {
    let house = with("me", bounds(|bounds| bounds.quota.queued_bytes = 1000)).await;
    for level in BOTH {
        let connect = Connect::new(level, "a").user("me").lasting();
        let mut reader = house.connect(&connect).await;
        reader.subscribe("a", 1).await;
        reader.disconnect().await;
        let mut writer = house.client(level, "writer").await;
        for number in 0..20 {
            writer.publish_with("a", &number.to_string(), 2, &[]).await;
        }
        assert!((900..=1000).contains(&house.stats().queued_bytes));
        let mut reader = house.connect(&connect).await;
        for number in 0..7 {
            let message = reader.message().await;
            assert_eq!(message.payload, number.to_string());
            reader.puback(message.id).await;
        }
        reader.is_quiet().await;
        reader.disconnect().await;
        house.connect(&Connect::new(level, "a").user("me")).await.disconnect().await;
        assert_eq!(house.stats().queued_bytes, 0);
    }
}

/// Connects over a stream that holds little, so that a reader who does not read is felt at once.
async fn slow(house: &Running, connect: &Connect) -> Client {
    let (near, far) = tokio::io::duplex(512);
    tokio::spawn(house.broker.serve(far, "192.0.2.1:1".parse().unwrap()));
    let mut client = Client::over(near, connect.level);
    client.send(&connect.bytes()).await;
    assert_eq!(client.next().await.body[1], 0);
    client
}

#[tokio::test]
async fn a_slow_reader_loses_qos_0_first_then_its_connection_and_nobody_waits_for_it() {
    for level in BOTH {
        let house = with("slow", bounds(|bounds| bounds.quota.queued_bytes = 64 * 1024)).await;
        let mut reader = slow(&house, &Connect::new(level, "slow").user("slow").lasting()).await;
        reader.subscribe("#", 1).await;
        let mut other = house.client(level, "other").await;
        other.subscribe("#", 0).await;
        let mut writer = house.client(level, "writer").await;
        let payload = "x".repeat(1000);
        for _ in 0..200 {
            writer.publish("zero", &payload).await;
            assert_eq!(other.message().await.topic, "zero");
        }
        assert!(house.stats().queued_bytes <= 32 * 1024, "QoS 0 has half of the room");
        assert!(house.stats().dropped > 0);
        assert_eq!(house.stats().connections, 3);
        for _ in 0..200 {
            writer.publish_with("one", &payload, 2, &[]).await;
            assert_eq!(other.message().await.topic, "one");
        }
        assert_eq!(house.stats().connections, 2);
        assert!(house.stats().queued_bytes <= 64 * 1024);
        house.end("slow");
        house.until("given back", |stats| stats.queued_bytes == 0).await;
    }
}

#[tokio::test]
async fn a_client_that_asks_and_does_not_read_is_not_read_from() {
    let house = Running::plain().await;
    let mut client = slow(&house, &Connect::new(Level::V311, "a")).await;
    let pings = [0xC0, 0].repeat(100_000);
    let sent = tokio::time::timeout(Duration::from_millis(300), client.send(&pings)).await;
    assert!(sent.is_err(), "all pings were taken in");
}

#[tokio::test]
async fn queued_bytes_of_all() {
    let nothing_of_its_own = bounds(|bounds| bounds.queued_share = 0);
    let policy = House::default().bounds("a", nothing_of_its_own).bounds("b", nothing_of_its_own);
    let house = Running::start(policy, settings(|s| s.in_all.queued_bytes = 1000)).await;
    let mut writer = house.client(Level::V5, "writer").await;
    for name in ["a", "b"] {
        let connect = Connect::new(Level::V5, name).user(name).lasting();
        house.connect(&connect).await.subscribe("a", 1).await;
    }
    house.until("absent", |stats| stats.connections == 1).await;
    for _ in 0..20 {
        writer.publish_with("a", "x", 2, &[]).await;
    }
    let stats = house.stats();
    assert!((800..=1000).contains(&stats.queued_bytes) && stats.sessions == 2, "one made room: {stats:?}");
}

/// The rest is its session and what the runtime keeps; see `examples/hold.rs`.
#[tokio::test]
async fn the_task_of_a_connection_is_small() {
    let house = Running::plain().await;
    let (_near, far) = tokio::io::duplex(16);
    let serving = house.broker.serve(far, "192.0.2.1:1".parse().unwrap());
    let size = size_of_val(&serving);
    assert!(size <= 1024, "{size} bytes");
    println!("{size} bytes");
}

#[tokio::test]
async fn a_packet_of_very_many_filters_has_an_answer_for_each() {
    let house = Running::plain().await;
    let mut client = house.client(Level::V5, "c").await;
    let filters: Vec<_> = (0..1_000).map(|number| string(&format!("f/{number}"))).collect();
    let wanted: Vec<u8> = filters.iter().flat_map(|filter| [&filter[..], &[1]].concat()).collect();
    client.send(&packet(0x82, &[&[0, 7, 0][..], &wanted].concat())).await;
    let granted: Vec<u8> = (0..1_000).map(|number| if number < 100 { 1 } else { 0x97 }).collect();
    assert_eq!(client.next().await.body[3..], granted);
    client.send(&packet(0xA2, &[&[0, 8, 0][..], &filters.concat()].concat())).await;
    let gone: Vec<u8> = (0..1_000).map(|number| if number < 100 { 0 } else { 0x11 }).collect();
    assert_eq!(client.next().await.body[3..], gone);
    assert_eq!(house.stats().subscriptions, 0);
}

#[tokio::test]
async fn half_a_long_packet_counts_for_whoever_sends_it() {
    let house = with("me", bounds(|bounds| bounds.quota.queued_bytes = 64 << 10)).await;
    let connect = |name: &str| Connect::new(Level::V5, name).user("me");
    // A PUBLISH of 40,000 bytes, and its first 20,000.
    let mut half = vec![0x30, 0xC0, 0xB8, 0x02];
    half.resize(20_000, 0);
    let mut first = house.connect(&connect("first")).await;
    first.send(&half).await;
    house.until("counted", |stats| stats.queued_bytes >= 40_000).await;
    let mut second = house.connect(&connect("second")).await;
    second.send(&half).await;
    assert_eq!(second.ending().await, Some(0x97));
    drop(first);
    house.until("given back", |stats| stats.queued_bytes == 0).await;
    let mut third = house.connect(&connect("third")).await;
    third.send(&half).await;
    house.until("counted", |stats| stats.queued_bytes >= 40_000).await;
}

#[tokio::test]
async fn filters_with_wildcards_have_so_many_levels_and_no_more() {
    let house = Running::plain().await;
    let mut client = house.client(Level::V5, "c").await;
    let filter = |levels: usize| format!("{}+", "a/".repeat(levels - 1));
    assert_eq!(client.subscribe(&filter(32), 0).await, 0);
    assert_eq!(client.subscribe(&filter(33), 0).await, 0x8F);
    assert_eq!(client.subscribe(&"a/".repeat(100), 0).await, 0, "without wildcards");
}
