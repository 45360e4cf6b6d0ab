//! Whoever sends very much leaves others their turn.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use otaru_broker::{Admission, Broker, ConnectRequest, Policy, Refusal, Settings};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

/// Packets of the flood.
const PACKETS: usize = 50_000;

/// Lets everybody in, and counts publishes.
#[derive(Default)]
struct Counting(Arc<AtomicUsize>);

impl Policy for Counting {
    type Identity = String;

    async fn identify(&self, request: ConnectRequest) -> Result<Admission<String>, Refusal> {
        Ok(Admission::new(request.client))
    }

    fn may_publish(&self, _: &String, _: &str) -> bool {
        self.0.fetch_add(1, Ordering::Relaxed);
        true
    }

    fn may_subscribe(&self, _: &String, _: &str) -> bool {
        true
    }
}

/// A CONNECT of 3.1.1 with a client id of one letter.
fn connect(client: u8) -> Vec<u8> {
    let mut packet = b"\x10\x0D\0\x04MQTT\x04\x02\0\0\0\x01".to_vec();
    packet.push(client);
    packet
}

/// A stream to the broker on which these bytes have been sent already.
async fn stream(broker: &Broker<Counting>, bytes: &[u8]) -> DuplexStream {
    let (mut here, there) = duplex(1 << 20);
    here.write_all(bytes).await.unwrap();
    tokio::spawn(broker.serve(there, SocketAddr::from((Ipv4Addr::LOCALHOST, 1))));
    here
}

/// On one thread, where only a connection that pauses by itself lets another be served.
#[tokio::test]
async fn a_flood_of_small_packets_leaves_others_their_turn() {
    let policy = Counting::default();
    let count = Arc::clone(&policy.0);
    let broker = Broker::new(policy, Settings::default());
    let mut other = stream(&broker, &connect(b'o')).await;
    let mut answer = [0; 4];
    other.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, *b"\x20\x02\0\0");
    let packets = [0x30, 3, 0, 1, b't'].repeat(PACKETS);
    let _flood = stream(&broker, &[connect(b'f'), packets].concat()).await;
    other.write_all(&[0xC0, 0]).await.unwrap();
    other.read_exact(&mut answer[..2]).await.unwrap();
    assert_eq!(answer[..2], [0xD0, 0]);
    let taken = count.load(Ordering::Relaxed);
    assert!(taken < PACKETS / 10, "{taken} packets came first");
    while count.load(Ordering::Relaxed) < PACKETS {
        tokio::task::yield_now().await;
    }
}

/// On one thread, where the client has its turn when the broker yields.
#[tokio::test]
async fn what_a_client_sends_behind_its_connect_is_answered_with_it() {
    let broker = Broker::new(Counting::default(), Settings::default());
    let mut client = stream(&broker, &connect(b'c')).await;
    tokio::task::yield_now().await;
    client.write_all(b"\x82\x06\0\x07\0\x01t\x01").await.unwrap();
    let mut answers = [0; 64];
    let count = client.read(&mut answers).await.unwrap();
    assert_eq!(answers[..count], *b"\x20\x02\0\0\x90\x03\0\x07\x01", "CONNACK and SUBACK in one piece");
}

#[tokio::test]
async fn who_says_goodbye_at_once_is_told_of_the_packets_before() {
    let broker = Broker::new(Counting::default(), Settings::default());
    let publish = b"\x32\x06\0\x01t\0\x09!";
    let mut client = stream(&broker, &[&connect(b'c')[..], publish, b"\xE0\0"].concat()).await;
    let mut answers = Vec::new();
    client.read_to_end(&mut answers).await.unwrap();
    assert_eq!(answers, b"\x20\x02\0\0\x40\x02\0\x09", "CONNACK and PUBACK");
}

#[tokio::test]
async fn who_goes_right_behind_its_connect_is_gone() {
    let broker = Broker::new(Counting::default(), Settings::default());
    for rest in [&b""[..], b"\xE0\0", b"\x00\0", b"\x10\x0D\0\x04MQTT\x04\x02\0\0\0\x01c"] {
        let mut client = stream(&broker, &[&connect(b'c')[..], rest].concat()).await;
        client.shutdown().await.unwrap();
        let mut answers = Vec::new();
        client.read_to_end(&mut answers).await.unwrap();
        assert!(answers.is_empty() || answers.starts_with(b"\x20\x02\0\0"), "{rest:?}: {answers:?}");
        assert_eq!(broker.stats().connections, 0, "{rest:?}");
    }
}
