//! More connections than there is room for, and readers that do not read: whoever means well is answered all the same.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use otaru_server::http::Limits;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{sleep, timeout};

use crate::bench::{Bench, LIMIT};
use crate::hostile::status;

/// A file that is no short answer, nor fits into any buffer.
const LONG: &str = "/api/docs/swagger-ui-bundle.js";

/// Few, so that each is soon reached.
fn few() -> Limits {
    Limits {
        connections: 8,
        reserve: 4,
        queue: 4,
        per_address: 4,
        streams: 2,
        handshake: Duration::from_secs(60),
        head: Duration::from_secs(60),
        stall: Duration::from_secs(60),
        patience: Duration::from_secs(60),
    }
}

async fn bench(limits: Limits) -> Bench {
    Bench::start_with(|config| config.http_limits = limits).await
}

/// An address of this machine; each counts as another.
fn machine(number: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 1, number).into()
}

async fn connect(from: IpAddr, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((from, 0).into()).unwrap();
    timeout(LIMIT, socket.connect(to)).await.unwrap().unwrap()
}

/// Everything that is answered until the server closes; nothing, when it closes at once.
async fn ask(from: IpAddr, to: SocketAddr, path: &str, more: &str) -> String {
    let mut stream = connect(from, to).await;
    let head = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{more}\r\n");
    let _ = stream.write_all(head.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = timeout(LIMIT, stream.read_to_end(&mut answer)).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

/// A connection that is used, and kept.
async fn kept(from: IpAddr, to: SocketAddr, more: &str) -> TcpStream {
    let mut stream = connect(from, to).await;
    let head = format!("GET /api/v1/me HTTP/1.1\r\nHost: x\r\n{more}\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut first = [0; 12];
    timeout(LIMIT, stream.read_exact(&mut first)).await.unwrap().unwrap();
    stream
}

/// A connection that is used, and kept, if there is room for it.
async fn begun(from: IpAddr, to: SocketAddr) -> Option<TcpStream> {
    let mut stream = connect(from, to).await;
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await.ok()?;
    let mut first = [0; 12];
    timeout(LIMIT, stream.read_exact(&mut first)).await.unwrap().ok()?;
    Some(stream)
}

/// A connection that asks for more than fits into any buffer, and reads nothing of it.
async fn silent(from: IpAddr, to: SocketAddr) -> TcpStream {
    let mut stream = connect(from, to).await;
    let request = format!("GET {LONG} HTTP/1.1\r\nHost: x\r\n\r\n").repeat(20);
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

/// Asks until it is answered so; an answer that is late is no fault here, one that never comes is.
async fn in_the_end(from: IpAddr, to: SocketAddr, path: &str, wanted: u16) {
    let tried = async {
        while status(&ask(from, to, path, "").await) != wanted {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(2 * LIMIT, tried).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_takes_nothing_is_ended() {
    let bench = bench(Limits { stall: Duration::from_secs(1), ..few() }).await;
    let address = bench.server.http();
    let mut silent_ones = Vec::new();
    for _ in 0..4 {
        silent_ones.push(silent(machine(1), address).await);
    }
    // They were the most that this address may have; when as many others find room, all of them are ended.
    let others = async {
        let mut held = Vec::new();
        while held.len() < 4 {
            match begun(machine(1), address).await {
                Some(stream) => held.push(stream),
                None => sleep(Duration::from_millis(50)).await,
            }
        }
    };
    timeout(2 * LIMIT, others).await.unwrap();
    for mut stream in silent_ones {
        let mut rest = Vec::new();
        let _ = timeout(LIMIT, stream.read_to_end(&mut rest)).await.expect("the server ended it");
        let text = String::from_utf8_lossy(&rest);
        assert!(text.matches("HTTP/1.1 200").count() < 20, "not all of it was sent");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_is_not_ended() {
    let bench = bench(Limits { stall: Duration::from_secs(5), ..few() }).await;
    let mut stream = silent(machine(1), bench.server.http()).await;
    let mut taken = 0;
    // For longer than a reader may take nothing.
    for _ in 0..40 {
        let mut some = vec![0; 512 * 1024];
        taken += timeout(LIMIT, stream.read(&mut some)).await.unwrap().expect("it is still served");
        sleep(Duration::from_millis(200)).await;
    }
    assert!(taken > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_has_so_many_connections_until_somebody_logs_in() {
    let bench = bench(few()).await;
    let address = bench.server.http();
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(kept(machine(1), address, "").await);
    }
    assert_eq!(ask(machine(1), address, "/healthz", "").await, "", "one too many is closed at once");
    assert_eq!(status(&ask(machine(2), address, "/healthz", "").await), 200, "others are not");
    drop(held);
    in_the_end(machine(1), address, "/healthz", 200).await;
    let login = format!("Authorization: Bearer {}\r\n", bench.admin);
    let mut held = Vec::new();
    for _ in 0..6 {
        held.push(kept(machine(1), address, &login).await);
    }
    assert_eq!(status(&ask(machine(1), address, "/healthz", "").await), 200, "who logged in does not count");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_house_answers_short_requests() {
    let bench = bench(few()).await;
    let address = bench.server.http();
    let mut held = Vec::new();
    for number in 0..8 {
        held.push(silent(machine(1 + number / 4), address).await);
    }
    // As long as they do not read, nothing else is free.
    for _ in 0..12 {
        let answer = ask(machine(3), address, "/healthz", "").await;
        assert_eq!(status(&answer), 200, "{answer}");
        let answer = ask(machine(3), address, "/login", "").await;
        assert_eq!(status(&answer), 200, "{answer}");
        let login = format!("Authorization: Bearer {}\r\n", bench.admin);
        let answer = ask(machine(3), address, "/api/v1/me", &login).await;
        assert_eq!(status(&answer), 200, "{answer}");
    }
    let answer = ask(machine(3), address, LONG, "").await;
    assert_eq!(status(&answer), 503, "{answer}");
    let login = format!("Authorization: Bearer {}\r\n", bench.admin);
    let answer = ask(machine(3), address, "/api/v1/events", &login).await;
    assert_eq!(status(&answer), 503, "what has no end is no short answer: {answer}");
    assert!(answer.contains("\r\nretry-after: "), "{answer}");
    // One connection does not take the place for ever: it gets one answer.
    let mut stream = connect(machine(4), address).await;
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    timeout(LIMIT, stream.read_to_string(&mut answer)).await.expect("it is closed").unwrap();
    assert_eq!(status(&answer), 200, "{answer}");
}

/// Little patience, and as many silent readers, half-sent heads and half-sent bodies as there are places.
async fn besieged() -> (Bench, Vec<TcpStream>) {
    let bench = bench(Limits { patience: Duration::from_millis(200), ..few() }).await;
    let address = bench.server.http();
    let mut held = Vec::new();
    for number in 0..4 {
        held.push(silent(machine(1 + number / 4), address).await);
    }
    for words in ["GET /", "", "POST /login HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n"] {
        let mut half = connect(machine(2), address).await;
        half.write_all(words.as_bytes()).await.unwrap();
        held.push(half);
    }
    held.push(kept(machine(2), address, "").await);
    // Of the reserve as well.
    for number in 0..4 {
        held.push(silent(machine(20 + number), address).await);
    }
    (bench, held)
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_waited_for_makes_room_for_others() {
    let (bench, mut held) = besieged().await;
    let address = bench.server.http();
    for number in 0..12 {
        let answer = ask(machine(40 + number), address, "/healthz", "").await;
        assert_eq!(status(&answer), 200, "{answer}");
        // A long answer needs a place for everybody, and waits for it.
        let answer = ask(machine(40 + number), address, LONG, "").await;
        assert_eq!(status(&answer), 200, "{}", answer.len());
    }
    let mut ended = 0;
    for stream in &mut held {
        let mut rest = Vec::new();
        ended += usize::from(timeout(LIMIT / 10, stream.read_to_end(&mut rest)).await.is_ok());
    }
    assert!(ended > 0, "some of those that only had a connection have none any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_waited_for_makes_room_for_others_of_the_same_address() {
    let bench = bench(Limits { patience: Duration::from_millis(200), ..few() }).await;
    let address = bench.server.http();
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(silent(machine(1), address).await);
    }
    in_the_end(machine(1), address, "/healthz", 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reserve_is_not_one_address_alone() {
    let bench = bench(few()).await;
    let address = bench.server.http();
    let mut held = Vec::new();
    for number in 0..8 {
        held.push(kept(machine(1 + number / 4), address, "").await);
    }
    // A part of it, which is one, with a head that is half sent.
    let mut half = connect(machine(3), address).await;
    half.write_all(b"GET /").await.unwrap();
    sleep(Duration::from_millis(300)).await;
    // What comes from there now waits; one is as much of the queue as it may have, and one more is closed at once.
    let mut waits = connect(machine(3), address).await;
    waits.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    sleep(Duration::from_millis(300)).await;
    assert_eq!(ask(machine(3), address, "/healthz", "").await, "");
    assert_eq!(status(&ask(machine(4), address, "/healthz", "").await), 200, "it is in nobody's way");
    drop(half);
    let mut answer = String::new();
    timeout(LIMIT, waits.read_to_string(&mut answer)).await.expect("it has its turn").unwrap();
    assert_eq!(status(&answer), 200, "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_half_sent_head_does_not_keep_the_reserve() {
    let bench = bench(Limits { head: Duration::from_secs(3), ..few() }).await;
    let address = bench.server.http();
    let mut held = Vec::new();
    for number in 0..8 {
        held.push(silent(machine(1 + number / 4), address).await);
    }
    for number in 0..4 {
        let mut half = connect(machine(10 + number), address).await;
        half.write_all(b"GET /").await.unwrap();
        held.push(half);
    }
    in_the_end(machine(20), address, "/healthz", 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_proxy_each_sender_has_so_many_requests() {
    let bench = Bench::start_with(|config| {
        config.http_limits = Limits { connections: 32, ..few() };
        config.trusted_proxies = vec![machine(9)];
    })
    .await;
    let address = bench.server.http();
    let from = |sender: &str| format!("X-Forwarded-For: {sender}\r\n");
    let mut held = Vec::new();
    for _ in 0..4 {
        // A body that does not come: the request is under way.
        let mut stream = connect(machine(9), address).await;
        let head = format!(
            "POST /api/v1/claim HTTP/1.1\r\nHost: x\r\n{}Content-Type: application/json\r\nContent-Length: 9\r\n\r\n",
            from("192.0.2.1")
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        held.push(stream);
    }
    in_the_end_through(&bench, &from("192.0.2.1"), 429).await;
    let answer = ask(machine(9), address, "/healthz", &from("192.0.2.1")).await;
    assert!(answer.contains("\r\nretry-after: "), "{answer}");
    assert_eq!(status(&ask(machine(9), address, "/healthz", &from("192.0.2.2")).await), 200);
    assert_eq!(status(&ask(machine(9), address, "/healthz", "").await), 200, "the proxy itself");
    drop(held);
    in_the_end_through(&bench, &from("192.0.2.1"), 200).await;
}

async fn in_the_end_through(bench: &Bench, more: &str, wanted: u16) {
    let tried = async {
        while status(&ask(machine(9), bench.server.http(), "/healthz", more).await) != wanted {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(2 * LIMIT, tried).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_proxy_a_sender_has_a_part_of_the_reserve() {
    let bench = Bench::start_with(|config| {
        config.http_limits = Limits { connections: 1, ..few() };
        config.trusted_proxies = vec![machine(9)];
    })
    .await;
    let address = bench.server.http();
    let _full = silent(machine(1), address).await;
    let head = "POST /api/v1/claim HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 192.0.2.1\r\n\
                Content-Type: application/json\r\nContent-Length: 9\r\n\r\n";
    // One that comes before the place for everybody is taken gets that one, and not a part of the reserve.
    let in_reserve = async {
        loop {
            let mut half = connect(machine(9), address).await;
            half.write_all(head.as_bytes()).await.unwrap();
            for _ in 0..5 {
                sleep(Duration::from_millis(50)).await;
                let answer = ask(machine(9), address, "/healthz", "X-Forwarded-For: 192.0.2.1\r\n").await;
                if status(&answer) == 429 {
                    return half;
                }
            }
        }
    };
    let _half = timeout(2 * LIMIT, in_reserve).await.unwrap();
    let answer = ask(machine(9), address, "/healthz", "X-Forwarded-For: 192.0.2.2\r\n").await;
    assert_eq!(status(&answer), 200, "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_reads_slowly_keeps_its_place_in_a_crowd() {
    let bench = bench(Limits { patience: Duration::from_secs(1), ..few() }).await;
    let address = bench.server.http();
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(16 * 1024).unwrap();
    socket.bind((machine(1), 0).into()).unwrap();
    let mut slow = socket.connect(address).await.unwrap();
    let request = format!("GET {LONG} HTTP/1.1\r\nHost: x\r\n\r\n");
    slow.write_all(request.as_bytes()).await.unwrap();
    let crowd = tokio::spawn(async move {
        let mut held = std::collections::VecDeque::new();
        for number in 0.. {
            held.push_back(silent(machine(2 + number % 200), address).await);
            if held.len() > 64 {
                held.pop_front();
            }
            sleep(Duration::from_millis(20)).await;
        }
    });
    // 50 KB a second, for longer than anybody is waited for: the system's buffers have more than the first seconds of it.
    for _ in 0..200 {
        let mut some = [0; 2_048];
        let taken = timeout(LIMIT, slow.read(&mut some)).await.unwrap().expect("it is still served");
        assert!(taken > 0, "it is still served");
        sleep(Duration::from_millis(40)).await;
    }
    crowd.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_trickle_make_room() {
    let bench = bench(Limits { connections: 4, patience: Duration::from_millis(400), ..few() }).await;
    let address = bench.server.http();
    let mut held = Vec::new();
    for number in 0..8 {
        let mut half = connect(machine(1 + number), address).await;
        let head = "POST /login HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n\
                    Content-Length: 9999\r\n\r\n";
        half.write_all(head.as_bytes()).await.unwrap();
        held.push(half);
    }
    let trickle = tokio::spawn(async move {
        loop {
            for half in &mut held {
                let _ = half.write_all(b"x").await;
            }
            sleep(Duration::from_millis(100)).await;
        }
    });
    for number in 0..6 {
        let answer = timeout(LIMIT, ask(machine(40 + number), address, LONG, "")).await.unwrap();
        assert_eq!(status(&answer), 200, "places for everybody and of the reserve are free again");
    }
    trickle.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_follows_events_so_often() {
    let bench = bench(Limits { connections: 32, ..few() }).await;
    let address = bench.server.http();
    let login = format!("Authorization: Bearer {}\r\n", bench.admin);
    let follow = async || {
        let mut stream = connect(machine(1), address).await;
        let head = format!("GET /api/v1/events HTTP/1.1\r\nHost: x\r\n{login}\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut first = [0; 12];
        timeout(LIMIT, stream.read_exact(&mut first)).await.unwrap().unwrap();
        (stream, String::from_utf8_lossy(&first).into_owned())
    };
    let (first, second) = (follow().await, follow().await);
    assert_eq!((status(&first.1), status(&second.1)), (200, 200));
    assert_eq!(status(&follow().await.1), 429);
    drop(first);
    let tried = async {
        while status(&follow().await.1) != 200 {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(2 * LIMIT, tried).await.unwrap();
}
