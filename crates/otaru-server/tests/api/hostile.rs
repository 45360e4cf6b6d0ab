//! Requests that mean no good, over real connections.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use axum::http::{Method, Request, header};
use serde_json::json;

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

pub(crate) fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// The same, off the threads that serve.
pub(crate) async fn sends(address: SocketAddr, bytes: Vec<u8>) -> String {
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

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_never_ends_is_given_up() {
    let bench = Bench::start().await;
    let address = bench.server.http();
    let head = "POST /api/v1/claim HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{";
    let answer = tokio::task::spawn_blocking(move || {
        let mut connection = TcpStream::connect(address).unwrap();
        connection.set_read_timeout(Some(2 * LIMIT)).unwrap();
        connection.write_all(head.as_bytes()).unwrap();
        let mut answer = String::new();
        // Only the end of the connection ends this.
        connection.read_to_string(&mut answer).unwrap();
        answer
    });
    let answer = answer.await.unwrap();
    assert_eq!(status(&answer), 408, "{answer}");
    assert!(answer.contains("urn:otaru:problem:timeout"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connection_is_closed() {
    let bench = Bench::start().await;
    let address = bench.server.http();
    let answer = tokio::task::spawn_blocking(move || {
        let mut connection = TcpStream::connect(address).unwrap();
        connection.set_read_timeout(Some(2 * LIMIT)).unwrap();
        connection.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        answer
    });
    assert_eq!(status(&answer.await.unwrap()), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn made_up_requests_fill_no_memory_with_metrics() {
    let bench = Bench::start_with(|config| config.metrics = Some("127.0.0.1:0".parse().unwrap())).await;
    let address = bench.server.http();
    for number in 0..50 {
        let request = format!(
            "MADEUP{number} /made-up-{number} HTTP/1.1\r\nHost: x\r\nX-Request-Id: made-up\r\nConnection: close\r\n\r\n"
        );
        let answer = sends(address, request.into()).await;
        assert_eq!(status(&answer), 404, "{answer}");
    }
    let metrics = bench.server.metrics().unwrap();
    let text =
        sends(metrics, b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".to_vec()).await;
    let counted = text.lines().filter(|line| line.contains("status=\"404\"")).collect::<Vec<_>>();
    assert_eq!(counted.len(), 1, "{counted:?}");
    assert!(counted[0].ends_with(" 50"), "{counted:?}");
    assert!(!text.to_lowercase().contains("made"), "nothing of what was sent is kept: {text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_nowhere_or_done_otherwise_is_a_problem_too() {
    let bench = Bench::start().await;
    let address = bench.server.http();
    for (line, wanted, kind) in [
        ("GET /api/v1/nothing", 404, "not-found"),
        ("GET /nothing", 404, "not-found"),
        ("DELETE /api/v1/fleet", 405, "method-not-allowed"),
        ("PUT /api/v1/devices/lamp", 405, "method-not-allowed"),
        ("TRACE /api/v1/me", 405, "method-not-allowed"),
        ("GET /api/v1/devices/%ff", 401, "unauthorized"),
    ] {
        let answer =
            sends(address, format!("{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").into()).await;
        assert_eq!(status(&answer), wanted, "{line}: {answer}");
        assert!(answer.contains("application/problem+json"), "{line}: {answer}");
        assert!(answer.contains(&format!("urn:otaru:problem:{kind}")), "{line}: {answer}");
        // RFC 9110 section 15.5.6 demands it.
        assert_eq!(wanted == 405, answer.contains("\r\nallow: "), "{line}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn deep_and_long_texts_are_refused_and_end_nothing() {
    let bench = Bench::start().await;
    let open = |text: &str, times: usize| text.repeat(times);
    for tags in [
        open("(", 100_000),
        open("not ", 50_000),
        open("a and ", 30_000) + "a",
        open("(a) or ", 30_000) + "a",
    ] {
        let body = json!({"which": {"tags": tags}, "set": {"x": ""}});
        bench.post("/devices/tags", body).await.problem(422, "invalid");
        let body = json!({"name": "x", "release": 1, "target": {"tags": tags}});
        bench.post("/rollouts", body).await.problem(422, "invalid");
    }
    let versions = open(">=1.0.0, ", 20_000) + ">1.0.0";
    bench
        .post("/devices/tags", json!({"which": {"versions": versions}, "set": {"x": ""}}))
        .await
        .problem(422, "invalid");
    // Nested JSON, where any JSON is taken.
    let deep = format!("{}{}", open("[", 100_000), open("]", 100_000));
    for path in ["/devices/lamp/status", "/rollouts", "/devices/tags"] {
        let request = Request::post(format!("/api/v1{path}"))
            .header(header::AUTHORIZATION, format!("Bearer {}", bench.admin))
            .header(header::CONTENT_TYPE, "application/json")
            .body(deep.clone().into());
        let answer = bench.send(request.unwrap()).await;
        assert!((400..500).contains(&answer.status.as_u16()), "{path}: {answer:?}");
    }
    bench.get("/me").await.is(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_request_writes_no_great_rows() {
    let bench = Bench::start().await;
    bench.post("/devices", json!({"id": "lamp"})).await.is(201);
    let many: Vec<String> = (0..65).map(|number| format!("t{number}")).collect();
    let body = json!({"remove_tags": many});
    bench.ask(Some(&bench.admin), Method::PATCH, "/devices/lamp", Some(body)).await.problem(422, "invalid");
    for remove in [json!(many), json!(["x".repeat(129)])] {
        bench
            .post("/devices/tags", json!({"devices": ["lamp"], "remove": remove}))
            .await
            .problem(422, "invalid");
    }
    let most: serde_json::Map<String, serde_json::Value> =
        (0..64).map(|number| (format!("t{number}"), json!(""))).collect();
    let body = json!({"devices": ["lamp"], "set": most});
    bench.post("/devices/tags", body).await.is(200);
    let body = json!({"devices": ["lamp"], "set": {"one more": ""}});
    bench.post("/devices/tags", body).await.problem(422, "invalid");
}
