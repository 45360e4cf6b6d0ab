//! A process without free descriptors, in a program of its own, since the limit is the process's.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../examples/hold/open.rs"]
mod open;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use otaru_broker::{Broker, Settings};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tracing::span;

use open::Open;

/// Counts the lines of the log.
struct Lines(Arc<AtomicUsize>);

impl tracing::Subscriber for Lines {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target().starts_with("otaru_broker")
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, _: &tracing::Event<'_>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

fn limit_to(files: u64) {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(files), ..limit }).unwrap();
}

#[tokio::test]
async fn connections_wait_while_there_are_no_descriptors_and_that_is_told_once() {
    let lines = Arc::new(AtomicUsize::new(0));
    tracing::subscriber::set_global_default(Lines(Arc::clone(&lines))).unwrap();
    let broker = Broker::new(Open, Settings::default());
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    // The system connects them before the broker takes them.
    let mut clients = Vec::new();
    for _ in 0..40 {
        clients.push(TcpStream::connect(address).await.unwrap());
    }
    let (before, open) =
        (getrlimit(Resource::Nofile), std::fs::read_dir("/proc/self/fd").unwrap().count() as u64);
    limit_to(open + 5);
    tokio::spawn(broker.listen(listener));
    while lines.load(Ordering::Relaxed) == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // Long enough for several more attempts.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(broker.stats().strangers < 10, "{:?}", broker.stats());
    assert_eq!(lines.load(Ordering::Relaxed), 1);
    setrlimit(Resource::Nofile, before).unwrap();
    for client in &mut clients {
        client.write_all(b"\x10\x0d\0\x04MQTT\x04\x02\0\x1e\0\x01c").await.unwrap();
        let mut answer = [0; 4];
        client.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer, [0x20, 2, 0, 0]);
    }
    assert_eq!(lines.load(Ordering::Relaxed), 1);
}
