//! Server-sent events.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::sync::mpsc::channel;

use axum::body::{Body, BodyDataStream};
use axum::http::{Method, Request, header};
use futures_util::StreamExt as _;
use otaru_api::Event;
use serde_json::json;
use tokio::time::timeout;

use crate::bench::{Bench, LIMIT};

#[tokio::test(flavor = "multi_thread")]
async fn changes_are_told_and_the_end_is_the_end() {
    let bench = Bench::start().await;
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

/// The events' stream, opened with this token; it is read when it is asked for.
async fn open(bench: &Bench, token: &str) -> BodyDataStream {
    let request = Request::get("/api/v1/events").header(header::AUTHORIZATION, format!("Bearer {token}"));
    let response = bench.respond(request.body(Body::empty()).unwrap()).await;
    assert_eq!(response.status(), 200);
    response.into_body().into_data_stream()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_reads_too_slowly_is_told_so() {
    let bench = Bench::start().await;
    let mut stream = open(&bench, &bench.admin).await;
    // More than are kept for those who lag behind.
    for id in 0..10_000 {
        bench.server.app().events.tell(Event::Release { id });
    }
    let first = timeout(LIMIT, stream.next()).await.unwrap().unwrap().unwrap();
    let first = String::from_utf8(first.to_vec()).unwrap();
    assert!(first.starts_with("event: resync\n"), "{first}");
    // What is still there comes after it.
    let next = timeout(LIMIT, stream.next()).await.unwrap().unwrap().unwrap();
    assert!(next.starts_with(b"event: release\n"), "{next:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_no_longer_let_in_hears_no_more() {
    let bench = Bench::start().await;
    let made = bench.post("/tokens", json!({"name": "t", "role": "viewer"})).await.is(201).json();
    let mut stream = open(&bench, made["text"].as_str().unwrap()).await;
    let mut other = open(&bench, &bench.admin).await;
    let path = format!("/tokens/{}", made["id"].as_str().unwrap());
    bench.ask(Some(&bench.admin), Method::DELETE, &path, None).await.is(204);
    // Comments may come; then it ends.
    timeout(LIMIT, async { while stream.next().await.is_some() {} }).await.unwrap();
    bench.server.app().events.tell(Event::Release { id: 7 });
    let told = timeout(LIMIT, other.next()).await.unwrap().unwrap().unwrap();
    assert!(!told.is_empty(), "others hear on");
}
