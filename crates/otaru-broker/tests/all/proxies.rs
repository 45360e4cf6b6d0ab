//! Proxies that tell who is behind them, and others who only say so.

use std::net::{IpAddr, Ipv4Addr};

use otaru_broker::{Rate, Settings};

use crate::client::{BOTH, Client, Connect, Level};
use crate::house::Running;

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
    let house = Running::behind(HERE, Settings::default()).await;
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
    let house = Running::behind(ELSEWHERE, Settings::default()).await;
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
    let house = Running::behind(HERE, settings).await;
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
    let house = Running::behind(HERE, settings).await;
    let mut silent = Vec::new();
    for _ in 0..40 {
        let mut client = house.open(Level::V5).await;
        client.send(&line("10.1.2.3")).await;
        silent.push(client);
    }
    house.until("bounded", |stats| stats.strangers <= 8).await;
    let (_, code) = connect(&house, &line("10.1.2.4"), &Connect::new(Level::V5, "c")).await;
    assert_eq!(code, Some(0));
    drop(silent);
    house.until("free", |stats| stats.strangers == 0).await;
}
