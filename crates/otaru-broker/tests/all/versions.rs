//! Both versions on one port: logins, refusals, and what each is told.

use otaru_broker::Settings;

use crate::client::{BOTH, Client, Connect, Level, packet, string};
use crate::house::{House, Running};

/// Looks for a property in a CONNACK of 5; returns the bytes from its value on.
fn property(client: &Client, id: u8) -> Option<Vec<u8>> {
    let mut rest = &client.connack[3..];
    while let Some((found, after)) = rest.split_first() {
        let length = match found {
            17 | 39 => 4,
            33 | 34 | 19 => 2,
            42 => 1,
            18 => 2 + usize::from(u16::from_be_bytes([after[0], after[1]])),
            other => panic!("property {other}"),
        };
        if *found == id {
            return Some(after[..length].to_vec());
        }
        rest = &after[length..];
    }
    None
}

#[tokio::test]
async fn both_versions_are_let_in_on_one_port() {
    let house = Running::plain().await;
    let old = house.client(Level::V311, "old").await;
    assert_eq!(old.connack, [0, 0]);
    let new = house.client(Level::V5, "new").await;
    assert_eq!(property(&new, 33), Some(vec![0, 64]), "receive maximum");
    assert_eq!(property(&new, 39), Some(vec![0, 4, 0, 0]), "maximum packet size");
    assert_eq!(property(&new, 34), Some(vec![0, 0]), "no topic aliases");
    assert_eq!(property(&new, 42), Some(vec![0]), "no shared subscriptions");
    assert_eq!(property(&new, 18), None);
    assert_eq!(property(&new, 19), None, "its own keep-alive holds");
    old.disconnect().await;
    new.disconnect().await;
    house.until_empty().await;
    assert_eq!(house.events().len(), 4, "{:?}", house.events());
}

#[tokio::test]
async fn terms_that_differ_are_told() {
    let house = Running::plain().await;
    let client = house
        .connect(&Connect::new(Level::V5, "").keep_alive(120).properties(&[17, 255, 255, 255, 255]))
        .await;
    assert_eq!(property(&client, 19), Some(vec![0, 60]), "keep-alive");
    assert_eq!(property(&client, 17), Some(86_400_u32.to_be_bytes().to_vec()), "session expiry");
    let assigned = property(&client, 18).expect("a client id of the broker's");
    let other = house.connect(&Connect::new(Level::V5, "").keep_alive(0)).await;
    assert_ne!(property(&other, 18).unwrap(), assigned);
    assert_eq!(property(&other, 19), Some(vec![0, 60]), "never is too long");
}

#[tokio::test]
async fn an_empty_client_id_needs_a_clean_session_in_3_1_1() {
    let house = Running::plain().await;
    assert_eq!(house.client(Level::V311, "").await.connack, [0, 0]);
    let refused = house.try_connect(&Connect { clean: false, ..Connect::new(Level::V311, "") }).await;
    assert_eq!(refused.connack, [0, 2]);
    let let_in = house.try_connect(&Connect { clean: false, ..Connect::new(Level::V5, "") }).await;
    assert_eq!(let_in.connack[1], 0);
}

#[tokio::test]
async fn refusals_are_told_in_each_versions_words() {
    let house = Running::plain().await;
    let mut old = house.try_connect(&Connect::new(Level::V311, "a").password("bad")).await;
    assert_eq!((old.ending().await, old.connack), (None, vec![0, 4]));
    let mut new = house.try_connect(&Connect::new(Level::V5, "a").password("bad")).await;
    assert_eq!(new.connack, [&[0, 0x86, 13, 31][..], &string("look it up")].concat());
    assert_eq!(new.ending().await, None);
    let enhanced = [&[21][..], &string("SCRAM")].concat();
    let new = house.try_connect(&Connect::new(Level::V5, "a").properties(&enhanced)).await;
    assert_eq!(new.connack[1], 0x8C);
    let barred = Connect::new(Level::V5, "a").user("viewer").will("a", "b");
    assert_eq!(house.try_connect(&barred).await.connack[1], 0x87, "a will that it may not publish");
    house.until_empty().await;
    assert!(house.events().iter().all(|line| line.starts_with("x a ")), "{:?}", house.events());
}

#[tokio::test]
async fn other_versions_are_answered_so_that_their_clients_understand() {
    let house = Running::plain().await;
    for (level, name, answer) in [
        (3, "MQIsdp", Some((0x20, vec![0, 1]))),
        (6, "MQTT", Some((0x20, vec![0, 0x84, 0]))),
        (5, "HTTP", None),
    ] {
        let mut client = house.open(Level::V5).await;
        let body = [&string(name)[..], &[level, 2, 0, 30, 0], &string("a")].concat();
        client.send(&packet(0x10, &body)).await;
        assert_eq!(client.hear().await.map(|heard| (heard.first, heard.body)), answer, "{name} {level}");
        assert_eq!(client.hear().await, None);
    }
}

#[tokio::test]
async fn what_is_no_connect_is_closed_at_once() {
    let house = Running::plain().await;
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xC0, 0], &[0x30, 3, 0, 1, b'a'], &[0x11, 2, 0, 0]] {
        let mut client = house.open(Level::V5).await;
        client.send(bytes).await;
        assert_eq!(client.hear().await, None, "{bytes:?}");
    }
    house.until_empty().await;
}

#[tokio::test]
async fn protocol_errors_end_the_connection_with_their_reason() {
    let house = Running::plain().await;
    let publish = |body: &[u8]| packet(0x30, body);
    for (what, bytes, reason) in [
        ("a second CONNECT", Connect::new(Level::V5, "a").bytes(), 0x82),
        ("AUTH without a method", vec![0xF0, 0], 0x82),
        ("a packet of the broker's", vec![0xD0, 0], 0x82),
        ("reserved flags", vec![0x60, 2, 0, 1], 0x81),
        ("a topic alias", publish(&[0, 0, 3, 0x23, 0, 1]), 0x94),
        ("a wildcard in a topic", publish(b"\0\x03a/#\0"), 0x90),
        ("no topic", publish(b"\0\0\0"), 0x82),
        ("U+0000", publish(b"\0\x01\0\0"), 0x81),
        ("too large", publish(&vec![0; 300 * 1024]), 0x95),
        ("a subscription identifier from a client", publish(b"\0\x01a\x02\x0b\x01"), 0x82),
        ("no filter", packet(0x82, &[0, 1, 0]), 0x82),
    ] {
        let mut client = house.client(Level::V5, "a").await;
        client.try_send(&bytes).await;
        assert_eq!(client.ending().await, Some(reason), "{what}");
    }
    let mut old = house.client(Level::V311, "a").await;
    old.send(&[0xF0, 0]).await;
    assert_eq!(old.ending().await, None, "3.1.1 is only closed");
}

#[tokio::test]
async fn silence_ends_a_connection_in_time() {
    let house = Running::plain().await;
    for level in BOTH {
        let mut other = house.client(level, "other").await;
        other.subscribe("will", 0).await;
        let mut client = house.connect(&Connect::new(level, "a").keep_alive(1).will("will", "lost")).await;
        assert_eq!(client.ending().await, (level == Level::V5).then_some(0x8D));
        assert_eq!(other.message().await.payload, "lost");
    }
}

#[tokio::test]
async fn packets_may_follow_a_connect_at_once_and_in_pieces() {
    let house = Running::plain().await;
    for level in BOTH {
        let mut client = house.open(level).await;
        let connect = Connect::new(level, "a").bytes();
        let bytes = [&connect[..], &[0xC0, 0, 0xC0, 0]].concat();
        for byte in bytes {
            client.send(&[byte]).await;
        }
        for first in [0x20, 0xD0, 0xD0] {
            assert_eq!(client.next().await.first, first);
        }
    }
}

#[tokio::test]
async fn streams_in_memory_are_served_as_sockets_are() {
    let house = Running::start(House::default(), Settings::default()).await;
    let (near, far) = tokio::io::duplex(256);
    tokio::spawn(house.broker.serve(far, "192.0.2.1:1883".parse().unwrap()));
    let mut client = Client::over(near, Level::V5);
    client.send(&Connect::new(Level::V5, "a").bytes()).await;
    assert_eq!(client.next().await.body[1], 0);
    assert_eq!(client.subscribe("a", 1).await, 1);
    let large = "x".repeat(20_000);
    house.client(Level::V5, "b").await.publish("a", &large).await;
    assert_eq!(client.message().await.payload, large);
    house.broker.stop().await;
    assert_eq!(client.ending().await, Some(0x8B));
}
