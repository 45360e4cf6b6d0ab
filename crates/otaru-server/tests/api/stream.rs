//! Server-sent events.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::sync::mpsc::channel;

use serde_json::json;

use crate::bench::{Bench, LIMIT};

#[tokio::test(flavor = "multi_thread")]
async fn changes_are_told_and_the_end_is_the_end() {
    let bench = Bench::start().await;
    let mut rng = rand::SeedableRng::seed_from_u64(4);
    let _: &mut rand::rngs::SmallRng = &mut rng;
    bench.devices(vec![("lamp".into(), "1.0.0", "idle", Vec::new())]).await;
    let (address, token) = (bench.server.http(), bench.admin.clone());
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        let mut connection = TcpStream::connect(address).unwrap();
        connection.set_read_timeout(Some(LIMIT)).unwrap();
        let head = "GET /api/v1/events?kinds=device HTTP/1.1\r\nHost: x\r\n";
        write!(connection, "{head}Authorization: Bearer {token}\r\n\r\n").unwrap();
        for line in BufReader::new(connection).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    let next = |text: &str| loop {
        let line = lines.recv_timeout(LIMIT).unwrap_or_else(|_| panic!("no line with {text}"));
        if line.contains(text) {
            return line;
        }
    };
    next("200 OK");
    next("text/event-stream");
    // The answer has begun: whoever listens is heard of from now on.
    bench.post("/devices/lamp/retire", json!({})).await.is(200);
    next("event: device");
    assert!(next("data:").contains("\"id\":\"lamp\""));
    bench.server.stop().await;
    // The stream ends: the thread does, and its end of the channel.
    while lines.recv_timeout(LIMIT).is_ok() {}
    assert!(TcpStream::connect(address).is_err(), "nobody listens any more");
}
