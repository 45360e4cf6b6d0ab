//! Requests that mean no good, over real connections.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::bench::{Bench, LIMIT};

/// Sends bytes as they are; gives back what was answered until the server closed.
fn raw(address: SocketAddr, bytes: &[u8]) -> String {
    let mut connection = TcpStream::connect(address).unwrap();
    connection.set_read_timeout(Some(LIMIT)).unwrap();
    // The server may close before it has read all.
    let _ = connection.write_all(bytes);
    let mut answer = Vec::new();
    let _ = connection.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|text| text.parse().ok()).unwrap_or(0)
}

async fn sends(address: SocketAddr, bytes: Vec<u8>) -> String {
    tokio::task::spawn_blocking(move || raw(address, &bytes)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_lead_nowhere_else() {
    let bench = Bench::start().await;
    let address = bench.server.http();
    for path in [
        "/files/../../../etc/passwd",
        "/files/%2e%2e%2f%2e%2e%2fetc%2fpasswd/x",
        "/files/../otaru.db/x",
        "/files/0000000000000000000000000000000000000000000000000000000000000000/x",
        "/files/AAAA/%00",
        "/api/docs/../../otaru.db",
        "/api/docs/..%2f..%2fotaru.db",
        "/otaru-data/otaru.db",
        "//etc/passwd",
        "/api/v1/devices/..%2f..%2ftokens",
    ] {
        let answer =
            sends(address, format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").into())
                .await;
        assert!(matches!(status(&answer), 400 | 401 | 404), "{path}: {answer}");
        assert!(!answer.contains("root:"), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_requests_are_refused_and_hurt_nobody() {
    let bench = Bench::start().await;
    let address = bench.server.http();
    let head = |more: &str| {
        format!("GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{more}\r\n").into_bytes()
    };
    for (what, bytes) in [
        ("no HTTP", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec()),
        (
            "two lengths",
            b"POST /api/v1/claim HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 5\r\n\r\nabc"
                .to_vec(),
        ),
        ("a long head", head(&format!("X: {}\r\n", "y".repeat(200_000)))),
        ("many headers", head(&"X: y\r\n".repeat(5_000))),
        ("a bad name", head("X y: z\r\n")),
        ("a null byte", head("X: a\0b\r\n")),
    ] {
        let answer = sends(address, bytes).await;
        assert!(answer.is_empty() || (400..500).contains(&status(&answer)), "{what}: {answer}");
    }
    let answer = sends(address, head("")).await;
    assert_eq!(status(&answer), 200, "{answer}");
    assert!(answer.contains("x-request-id"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_never_ends_is_given_up() {
    let bench = Bench::start().await;
    let address = bench.server.http();
    let waited = tokio::task::spawn_blocking(move || {
        let start = Instant::now();
        let mut connection = TcpStream::connect(address).unwrap();
        connection.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        connection.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n").unwrap();
        let mut answer = Vec::new();
        let _ = connection.read_to_end(&mut answer);
        start.elapsed()
    });
    assert!(waited.await.unwrap() < Duration::from_secs(50), "the server closed it");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_people_write_becomes_no_header() {
    let bench = Bench::start().await;
    let made =
        bench.post("/fleet-keys", serde_json::json!({"name": "a\"b<script>", "tags": {"<b>": "\"&'"}})).await;
    made.is(201);
    for (path, text) in [("/devices?q=%0d%0aX:%20y", "q"), ("/audit?actor=%0d%0aSet-Cookie:%20a=b", "actor")]
    {
        let answer = bench.get(path).await.is(200);
        assert!(!answer.headers.contains_key("x") && !answer.headers.contains_key("set-cookie"), "{text}");
        assert_eq!(answer.headers["x-content-type-options"], "nosniff");
        assert_eq!(answer.headers["cache-control"], "no-store");
    }
}
