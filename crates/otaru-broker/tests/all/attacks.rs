//! Attacks: whatever is held for them is bounded while they last, and nothing afterwards.

use std::time::Duration;

use otaru_broker::{Bounds, Settings};

use crate::client::{BOTH, Client, Connect, Level, packet};
use crate::house::{House, Running};

fn strangers(sockets: usize, share: usize, time: Duration) -> Settings {
    let mut settings = Settings::default();
    settings.strangers.sockets = sockets;
    settings.strangers.sockets_per_address = share;
    settings.strangers.time = time;
    settings
}

/// Sockets that never say CONNECT.
#[tokio::test]
async fn silent_sockets_are_few_and_end_in_time() {
    let house = Running::start(House::default(), strangers(100, 10, Duration::from_secs(2))).await;
    let mut silent = Vec::new();
    for _ in 0..400 {
        silent.push(house.open(Level::V5).await);
        assert!(house.stats().strangers <= 100);
    }
    house.client(Level::V5, "owner").await.disconnect().await;
    for mut client in silent {
        assert_eq!(client.hear().await, None);
    }
    house.until_empty().await;
}

/// Whoever has said CONNECT and makes place, finds none, or is not decided on in time, is told so in its version.
#[tokio::test]
async fn whoever_is_sent_away_is_told_in_its_version() {
    let house = House::default().closed();
    let house = Running::start(house, strangers(2, 2, Duration::from_secs(3))).await;
    for (level, busy) in [(Level::V5, 0x89), (Level::V311, 3)] {
        // Half a CONNECT makes place for one that comes whole.
        let mut half = house.open(level).await;
        let connect = Connect::new(level, "half").bytes();
        half.send(&connect[..connect.len() - 1]).await;
        house.until("half there", |stats| stats.strangers == 1).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        let mut waiting = Vec::new();
        for number in 0..2 {
            let mut one = house.open(level).await;
            one.send(&Connect::new(level, "whole").bytes()).await;
            house.until("being decided on", |stats| stats.logins == number + 1).await;
            waiting.push(one);
        }
        assert_eq!(half.next().await.body[1], busy, "made place");
        assert_eq!(house.try_connect(&Connect::new(level, "late")).await.connack[1], busy, "found none");
        for mut one in waiting {
            assert_eq!(one.next().await.body[1], busy, "not decided on in time");
        }
        house.until("gone", |stats| stats.strangers == 0).await;
    }
}

/// Strangers that are refused, or say nonsense, and keep their sockets open.
#[tokio::test]
async fn whoever_is_refused_holds_no_place_while_it_is_told() {
    let house = Running::start(House::default(), strangers(1, 1, Duration::from_secs(10))).await;
    for level in BOTH {
        let refused = house.try_connect(&Connect::new(level, "a").password("bad")).await;
        assert_ne!(refused.connack[1], 0);
        assert_eq!(house.stats().strangers, 0);
        let mut nonsense = house.open(level).await;
        nonsense.send(&Connect::new(level, &"x".repeat(2048)).bytes()).await;
        let _ = nonsense.hear().await;
        assert_eq!(house.stats().strangers, 0);
        house.client(level, "b").await.disconnect().await;
        drop((refused, nonsense));
    }
}

/// Halves of a CONNECT.
#[tokio::test]
async fn half_a_connect_holds_two_kilobytes_at_most() {
    let house = Running::plain().await;
    // One that claims more than may be is closed before anything of it is kept.
    let mut large = house.open(Level::V5).await;
    large.send(&[0x10, 0xFF, 0xFF, 0xFF, 0x7F]).await;
    assert_eq!(large.hear().await, None);
    let mut halves = Vec::new();
    for _ in 0..50 {
        let mut half = house.open(Level::V5).await;
        let connect = Connect::new(Level::V5, &"x".repeat(1900)).bytes();
        half.send(&connect[..connect.len() - 1]).await;
        halves.push((half, connect[connect.len() - 1]));
    }
    house.until("all there", |stats| stats.strangers == 50).await;
    for (half, last) in &mut halves {
        half.send(&[*last]).await;
        assert_eq!(half.next().await.first, 0x20);
    }
    let connect = Connect::new(Level::V5, &"x".repeat(2048)).bytes();
    let mut above = house.open(Level::V5).await;
    above.send(&connect).await;
    assert_eq!(above.next().await.body[1], 0x95);
}

/// Many sessions of one login, then messages for all of them.
#[tokio::test]
async fn sessions_of_one_login_do_not_multiply_messages() {
    let house = Running::plain().await;
    for level in BOTH {
        for number in 0..90 {
            let connect = Connect::new(level, &format!("{level:?}{number}"))
                .user(&format!("viewer{level:?}"))
                .lasting();
            let mut client = house.connect(&connect).await;
            client.subscribe("#", 1).await;
        }
    }
    let bound = 2 * Bounds::default().quota.queued_bytes;
    let mut writer = house.client(Level::V5, "writer").await;
    for _ in 0..10 {
        writer.publish_with("a", &"x".repeat(200_000), 2, &[]).await;
        assert!(house.stats().queued_bytes <= bound);
    }
    assert!(house.stats().queued_bytes > bound / 2);
    assert_eq!(house.end("viewerV5"), 0);
    house.end("viewerV311");
    let stats = house.stats();
    assert_eq!((stats.sessions, stats.subscriptions, stats.queued_bytes), (1, 0, 0));
}

/// A device retains as much as it can under invented topics.
#[tokio::test]
async fn what_a_device_retains_is_bounded() {
    let house =
        Running::start(House::default().bounds("device", Bounds::device()), Settings::default()).await;
    let mut device = house.connect(&Connect::new(Level::V5, "a").user("device")).await;
    let mut refused = 0;
    for number in 0..500 {
        let topic = format!("device/{number}");
        refused += usize::from(device.publish_with(&topic, &"x".repeat(1000), 3, &[]).await == 0x97);
    }
    assert!(refused > 450 && house.stats().retained_bytes <= Bounds::device().quota.retained_bytes);
    house.broker.forget_retained("device/");
    assert_eq!(house.stats().retained_bytes, 0);
}

/// A login that is over keeps publishing.
#[tokio::test]
async fn a_login_that_is_over_has_no_rights() {
    let house = Running::plain().await;
    for level in BOTH {
        let mut listener = house.client(level, "listener").await;
        listener.subscribe("commands", 0).await;
        let mut operator = house.connect(&Connect::new(level, "op").user("operator")).await;
        operator.publish("commands", "while it may").await;
        assert_eq!(listener.message().await.payload, "while it may");
        house.end("operator");
        let bytes = operator.publish_bytes("commands", b"no more", 0, 0, &[]);
        operator.try_send(&bytes.repeat(100)).await;
        let _ = operator.ending().await;
        listener.is_quiet().await;
    }
}

/// Whoever may log in takes the client ids of others.
#[tokio::test]
async fn a_client_id_shuts_nobody_out() {
    let house =
        Running::start(House::default().bounds("device", Bounds::device()), Settings::default()).await;
    for level in BOTH {
        let mut owner = house.connect(&Connect::new(level, "lamp").user("device")).await;
        for number in 0..20 {
            let thief = Connect::new(level, "lamp").user(&format!("thief{number}")).lasting();
            house.connect(&thief).await.disconnect().await;
        }
        owner.is_quiet().await;
        owner.disconnect().await;
        // Sessions that were left behind under other client ids keep the device itself not out.
        for number in 0..7 {
            house
                .connect(&Connect::new(level, &number.to_string()).user("device").lasting())
                .await
                .disconnect()
                .await;
        }
        house.connect(&Connect::new(level, "lamp").user("device")).await.disconnect().await;
        house.end("device");
    }
}

/// Bytes of all kinds, before and after a login, end a connection at the worst.
#[tokio::test]
async fn hostile_bytes_end_their_own_connection_only() {
    use rand::{Rng as _, SeedableRng as _};
    let seed = rand::random();
    println!("seed {seed}");
    let mut random = rand::rngs::SmallRng::seed_from_u64(seed);
    let mut settings = Settings::default();
    settings.strangers.time = Duration::from_secs(1);
    let house = Running::start(House::default(), settings).await;
    let mut bystander = house.client(Level::V5, "bystander").await;
    for round in 0..400 {
        let level = BOTH[round % 2];
        let mut client: Client = house.open(level).await;
        if round % 4 < 3 {
            client.send(&Connect::new(level, "a").user("hostile").bytes()).await;
        }
        let mut bytes: Vec<u8> = (0..random.random_range(1..60)).map(|_| random.random()).collect();
        if round % 3 == 0 {
            bytes = packet(random.random_range(2..16) << 4 | random.random_range(0..4), &bytes);
        }
        client.try_send(&bytes).await;
    }
    bystander.is_quiet().await;
    drop(bystander);
    house.until_empty().await;
    house.end("hostile");
    house.broker.forget_retained("");
    let stats = house.stats();
    assert_eq!((stats.sessions, stats.subscriptions, stats.retained_bytes, stats.queued_bytes), (0, 0, 0, 0));
}
