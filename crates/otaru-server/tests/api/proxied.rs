//! Clients of the embedded broker that come by way of a proxy, while the server is tried out without logins.

use std::net::IpAddr;

use otaru_server::config::MqttConfig;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::bench::{Bench, LIMIT};

/// A server that is tried out, where this machine is a proxy for HTTP and perhaps for MQTT.
async fn bench(is_proxy: bool) -> Bench {
    let here = IpAddr::from([127, 0, 0, 1]);
    Bench::start_with(|config| {
        config.dev = true;
        config.trusted_proxies = vec![here];
        if let MqttConfig::Embedded { proxies, .. } = &mut config.mqtt {
            proxies.extend(is_proxy.then_some(here));
        }
    })
    .await
}

/// Connects without a login as one that a proxy says comes from `sender`, and subscribes to everything; returns the codes of both
/// answers, as far as there are any.
async fn grasp(bench: &Bench, sender: Option<&str>) -> (Option<u8>, Option<u8>) {
    let url = bench.server.mqtt_url();
    let mut stream = TcpStream::connect((url.host.as_str(), url.port)).await.unwrap();
    let header =
        sender.map(|sender| format!("PROXY TCP4 {sender} 10.0.0.1 5000 1883\r\n")).unwrap_or_default();
    // A clean session of MQTT 3.1.1 with the client id `lamp`: sections 3.1 and 3.8.
    let connect = b"\x10\x10\0\x04MQTT\x04\x02\0\x3C\0\x04lamp";
    let subscribe = b"\x82\x06\0\x01\0\x01#\0";
    let mut answer = async |bytes: &[u8], length: usize| {
        stream.write_all(bytes).await.ok()?;
        let mut answer = vec![0; length];
        timeout(LIMIT, stream.read_exact(&mut answer)).await.unwrap().ok()?;
        answer.last().copied()
    };
    let connack = answer(&[header.as_bytes(), connect].concat(), 4).await;
    match connack {
        Some(0) => (connack, answer(subscribe, 5).await),
        _ => (connack, None),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whom_a_proxy_names_is_never_of_this_machine() {
    let bench = bench(true).await;
    assert_eq!(grasp(&bench, None).await, (Some(0), Some(0)), "whoever is here hears everything");
    for sender in ["127.0.0.1", "10.1.2.3"] {
        assert_eq!(grasp(&bench, Some(sender)).await, (Some(0), Some(0x80)), "{sender} is a device at most");
    }
    assert_eq!(grasp(&bench, Some("192.0.2.1")).await, (Some(4), None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_for_http_is_none_for_mqtt() {
    let bench = bench(false).await;
    assert_eq!(grasp(&bench, Some("10.1.2.3")).await, (None, None), "that is no CONNECT");
    assert_eq!(grasp(&bench, None).await, (Some(0), Some(0)));
}
