//! Proxies that tell who is behind them, and others who only say so.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use otaru_broker::{Rate, Settings};

use crate::client::{BOTH, Client, Connect, Level};
use crate::house::{House, Running};

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const ELSEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

/// Header of version 1.
fn line(sender: &str) -> Vec<u8> {
    format!("PROXY TCP4 {sender} 10.0.0.1 5000 1883\r\n").into_bytes()
}

/// Header of version 2.
fn binary(sender: [u8; 4]) -> Vec<u8> {
    let start = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0C";
    [&start[..], &sender, &[10, 0, 0, 1, 0x13, 0x88, 0x07, 0x5B]].concat()
}

/// Connects with this before the CONNECT; returns the code of the answer, if there is one.
async fn connect(house: &Running, header: &[u8], connect: &Connect) -> (Client, Option<u8>) {
    let mut client = house.open(connect.level).await;
    client.send(&[header, &connect.bytes()].concat()).await;
    let code = client.hear().await.map(|heard| heard.body[1]);
    (client, code)
}

#[tokio::test]
async fn a_named_proxy_tells_who_is_behind_it() {
    let house = Running::behind(HERE, House::default(), Settings::default()).await;
    for level in BOTH {
        for (header, told) in [
            (line("10.1.2.3"), " from 10.1.2.3:5000"),
            (binary([10, 4, 5, 6]), " from 10.4.5.6:5000"),
            (b"PROXY UNKNOWN\r\n".to_vec(), ""),
            (Vec::new(), ""),
        ] {
            let (client, code) = connect(&house, &header, &Connect::new(level, "c").user("me")).await;
            assert_eq!(code, Some(0));
            assert_eq!(house.events().last(), Some(&format!("+ me c{told}")));
            client.disconnect().await;
            house.until_empty().await;
        }
    }
    let (_, code) = connect(&house, b"PROXY TCP4 nonsense\r\n", &Connect::new(Level::V5, "c")).await;
    assert_eq!(code, None);
}

#[tokio::test]
async fn nobody_else_is_believed() {
    let house = Running::behind(ELSEWHERE, House::default(), Settings::default()).await;
    for header in [line("10.1.2.3"), binary([10, 1, 2, 3])] {
        let (_, code) = connect(&house, &header, &Connect::new(Level::V5, "c")).await;
        assert_eq!(code, None, "that is no CONNECT");
    }
    house.until_empty().await;
    house.client(Level::V5, "c").await;
}

#[tokio::test]
async fn bounds_of_an_address_are_those_of_the_one_behind_the_proxy() {
    let mut settings = Settings::default();
    settings.strangers.failures_per_address = Rate { burst: 3, per_minute: 1 };
    let house = Running::behind(HERE, House::default(), settings).await;
    let bad = Connect::new(Level::V5, "c").password("bad");
    for _ in 0..3 {
        assert_eq!(connect(&house, &line("10.1.2.3"), &bad).await.1, Some(0x86));
    }
    let (good, from) = (Connect::new(Level::V5, "c"), ["10.1.2.3", "10.1.2.4"]);
    assert_eq!(connect(&house, &line(from[0]), &good).await.1, Some(0x9F), "it failed too often");
    for _ in 0..9 {
        let (client, code) = connect(&house, &line(from[1]), &good).await;
        assert_eq!(code, Some(0), "another has nothing to do with it, nor has the proxy");
        client.disconnect().await;
    }
}

#[tokio::test]
async fn strangers_behind_a_proxy_make_place_for_their_own() {
    let mut settings = Settings::default();
    settings.strangers.sockets = 8;
    settings.strangers.sockets_per_address = 2;
    let house = Running::behind(HERE, House::default(), settings).await;
    let mut others = Vec::new();
    for number in 1..=3 {
        let mut other = house.open(Level::V5).await;
        other.send(&line(&format!("10.1.3.{number}"))).await;
        house.until("there", |stats| stats.strangers == number).await;
        pause().await;
        others.push(other);
    }
    let mut flood = Vec::new();
    for _ in 0..40 {
        let mut client = house.open(Level::V5).await;
        client.send(&line("10.1.2.3")).await;
        pause().await;
        flood.push(client);
    }
    // Five of its own find room beside the others.
    for client in &mut flood[..35] {
        assert_eq!(client.hear().await, None);
    }
    assert_eq!(house.stats().strangers, 8);
    for other in &mut others {
        other.send(&Connect::new(Level::V5, "c").bytes()).await;
        assert_eq!(other.next().await.body[1], 0, "it did not have to make place");
    }
    drop(flood);
    house.until("free", |stats| stats.strangers == 0).await;
}

/// Leaves the broker time to take in what was sent, so that the next comes in a packet of its own.
async fn pause() {
    tokio::time::sleep(Duration::from_millis(5)).await;
}

#[tokio::test]
async fn a_header_comes_in_pieces_and_names_addresses_of_every_form() {
    let house = Running::behind(HERE, House::default(), Settings::default()).await;
    for (header, told) in [
        (line("10.1.2.3"), "10.1.2.3:5000"),
        (binary([10, 4, 5, 6]), "10.4.5.6:5000"),
        (b"PROXY TCP6 ::ffff:10.1.2.3 ::1 5000 1883\r\n".to_vec(), "10.1.2.3:5000"),
        (b"PROXY TCP6 2001:db8::7 ::1 5000 1883\r\n".to_vec(), "[2001:db8::7]:5000"),
        (b"PROXY TCP4 10.1.2.3 10.0.0.1 0 0\r\n".to_vec(), "10.1.2.3:0"),
    ] {
        let connect = Connect::new(Level::V5, "c").user("me");
        let mut client = house.open(Level::V5).await;
        for piece in header.chunks(3) {
            client.send(piece).await;
            pause().await;
        }
        client.send(&connect.bytes()).await;
        assert_eq!(client.next().await.body[1], 0);
        assert_eq!(house.events().last(), Some(&format!("+ me c from {told}")));
        client.disconnect().await;
        house.until_empty().await;
    }
}

#[tokio::test]
async fn mapped_addresses_are_those_that_they_map() {
    let mut settings = Settings::default();
    settings.strangers.failures_per_address = Rate { burst: 2, per_minute: 1 };
    let house = Running::behind(HERE, House::default(), settings).await;
    let bad = Connect::new(Level::V5, "c").password("bad");
    for header in [line("10.1.2.3"), b"PROXY TCP6 ::ffff:10.1.2.3 ::1 5000 1883\r\n".to_vec()] {
        assert_eq!(connect(&house, &header, &bad).await.1, Some(0x86));
    }
    assert_eq!(connect(&house, &line("10.1.2.3"), &Connect::new(Level::V5, "c")).await.1, Some(0x9F));
}

#[tokio::test]
async fn whoever_is_sent_away_behind_a_proxy_is_told_in_its_version() {
    let mut settings = Settings::default();
    settings.strangers.failures_per_address = Rate { burst: 3, per_minute: 1 };
    let house = Running::behind(HERE, House::default(), settings).await;
    let bad = Connect::new(Level::V5, "c").password("bad");
    for _ in 0..3 {
        assert_eq!(connect(&house, &line("10.1.2.3"), &bad).await.1, Some(0x86));
    }
    for (level, code) in [(Level::V5, 0x9F), (Level::V311, 3)] {
        let mut late = house.open(level).await;
        late.send(&line("10.1.2.3")).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        late.send(&Connect::new(level, "c").bytes()).await;
        assert_eq!(late.next().await.body[1], code, "its CONNECT came after the header");
    }
    // One that the door does not even take in.
    let mut settings = Settings::default();
    settings.strangers.sockets = 1;
    let house = Running::behind(HERE, House::default().closed(), settings).await;
    let mut waiting = house.open(Level::V5).await;
    waiting.send(&[line("10.1.2.3"), Connect::new(Level::V5, "c").bytes()].concat()).await;
    house.until("being decided on", |stats| stats.logins == 1).await;
    for (level, code) in [(Level::V5, 0x89), (Level::V311, 3)] {
        for header in [line("10.1.2.4"), binary([10, 1, 2, 4]), Vec::new()] {
            assert_eq!(connect(&house, &header, &Connect::new(level, "c")).await.1, Some(code));
        }
    }
}
