//! Whoever asks is the broker, asks in time and at a bounded length, and not everything at once; secrets are told to nobody.

use otaru_rollout::Time;
use otaru_server::clock::Clock;
use otaru_server::config::{CertificateSource, PlainListeners, TlsConfig};
use otaru_server::http::Limits;
use otaru_server::server::{Server, StartError};
use otaru_server::tls::PairFiles;
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::{Asked, SECRET, broker, is_allowed, send, settings};
use crate::authority::{Authority, handshake};
use crate::bench::{Bench, Logs};

const CONNECT: &str = "/v1/broker/connect";

fn bearer(secret: &str) -> String {
    format!("Authorization: Bearer {secret}\r\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_has_the_secret_is_answered_and_who_guesses_is_slowed_down() {
    let asked = Asked::start().await;
    let question = json!({"client_id": "lamp"}).to_string();
    assert_eq!(asked.send(CONNECT, "", &question).await.0, 401);
    assert_eq!(asked.send(&format!("{CONNECT}?secret=x"), "", &question).await.0, 401);
    assert_eq!(asked.send("/v1/broker/nothing", "", &question).await.0, 401, "also what is not there");
    let mut last = 0;
    for guess in 0..40 {
        last = asked.send(CONNECT, &bearer(&format!("guess-{guess}")), &question).await.0;
    }
    assert_eq!(last, 429);
    // The broker at the same address is not shut out.
    assert_eq!(asked.send(CONNECT, &bearer(SECRET), &question).await.0, 200);
    assert_eq!(asked.send(&format!("{CONNECT}?secret={SECRET}"), "", &question).await.0, 200);
    assert_eq!(asked.send("/v1/broker/nothing", &bearer(SECRET), &question).await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_in_the_log_or_in_an_answer() {
    let logs = Logs::all();
    let asked = Asked::start().await;
    let lamp = asked.device("lamp").await;
    assert!(asked.connects("lamp", "lamp", &lamp).await);
    assert!(!asked.connects("lamp", "lamp", "a-wrong-password").await);
    let bad = r#"{"client_id": "lamp", "password": ["a-torn-password"]}"#;
    let (status, text) = asked.send(&format!("{CONNECT}?secret={SECRET}"), "", bad).await;
    assert!(status == 400 && !text.contains("a-torn-password"), "{text}");
    asked.send(CONNECT, &bearer("a-wrong-secret"), bad).await;
    let text = logs.text();
    assert!(text.contains("without the right secret"), "{text}");
    for secret in [SECRET, &lamp, "a-wrong-password", "a-torn-password", "a-wrong-secret", super::SERVER.1] {
        assert!(!text.contains(secret), "{secret}");
    }
    assert!(!format!("{:?}", asked.bench.server.app().config).contains(SECRET));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_is_short_and_comes_in_time() {
    let asked = Asked::start().await;
    let long = json!({"client_id": "lamp", "password": "x".repeat(16 << 10)}).to_string();
    assert_eq!(asked.send(CONNECT, &bearer(SECRET), &long).await.0, 413);
    let mut slow = TcpStream::connect(asked.address).await.unwrap();
    let head = format!(
        "POST {CONNECT} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 99\r\n{}\r\n{{",
        bearer(SECRET)
    );
    slow.write_all(head.as_bytes()).await.unwrap();
    assert_eq!(send(slow, "", "", "").await.0, 408);
    let names = json!({"client_id": "c".repeat(257), "password": asked.bench.admin});
    assert!(!is_allowed(&asked.ask("connect", names).await));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_so_many_questions_are_answered_at_the_same_time() {
    let asked = Asked::start().await;
    let question = json!({"client_id": "lamp"}).to_string();
    let head = format!(
        "POST {CONNECT} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 99\r\n{}\r\n{{",
        bearer(SECRET)
    );
    let mut held = Vec::new();
    let busy = loop {
        let mut half = TcpStream::connect(asked.address).await.unwrap();
        half.write_all(head.as_bytes()).await.unwrap();
        held.push(half);
        let (status, text) = asked.send(CONNECT, &bearer(SECRET), &question).await;
        if status != 200 {
            break (status, text);
        }
        assert!(held.len() < 200, "there is no end");
    };
    assert_eq!(busy.0, 503, "{}", busy.1);
    assert!(held.len() >= 100, "{}", held.len());
    drop(held);
    let answered = async {
        while asked.send(CONNECT, &bearer(SECRET), &question).await.0 != 200 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(crate::bench::LIMIT, answered).await.expect("there is room again");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_logins_count_for_the_address_that_the_broker_tells_and_for_no_other() {
    // No time passes, in which more would be allowed.
    let clock = Clock::new(|| Time(1_795_922_684_123));
    let bench = Bench::start_at(|config| config.mqtt = broker(settings()), clock).await;
    let address = bench.server.broker_auth().unwrap();
    let asked = Asked { bench, address };
    let lamp = asked.device("lamp").await;
    let login = |password: &str, address: &str| json!({"client_id": "lamp", "username": "lamp", "password": password, "address": address});
    let mut wrong = 0;
    while wrong < 2_000 {
        let logins = (0..40).map(|_| asked.ask("connect", login("wrong", "192.0.2.7:4711")));
        let answers = futures_util::future::join_all(logins).await;
        let wanted = "user name or password is wrong";
        assert!(answers.iter().all(|answer| answer["reason"] == wanted), "{answers:?}");
        wrong += answers.len();
    }
    let refused = asked.ask("connect", login(&lamp, "192.0.2.7")).await;
    let why = refused["reason"].as_str().unwrap();
    assert!(why.contains("too many wrong logins from this address"), "{refused}");
    assert!(is_allowed(&asked.ask("connect", login(&lamp, "192.0.2.8")).await));
    assert!(asked.connects("lamp", "lamp", &lamp).await, "where no address is told, none is counted");
    let bad = asked.send(CONNECT, &bearer(SECRET), &login(&lamp, "here").to_string()).await;
    assert_eq!(bad.0, 422, "{}", bad.1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_answered_is_counted() {
    let asked = Asked::start().await;
    let lamp = asked.device("lamp").await;
    asked.connects("lamp", "lamp", &lamp).await;
    asked.connects("lamp", "lamp", "wrong").await;
    asked.publishes("lamp", "lamp", "ESP32/ota/lamp/status").await;
    let app = asked.bench.server.app();
    let text = app.metrics.scrape(&app.db).await.unwrap();
    for line in [
        r#"otaru_broker_questions_total{question="connect",answer="allow"} 1"#,
        r#"otaru_broker_questions_total{question="connect",answer="deny"} 1"#,
        r#"otaru_broker_questions_total{question="publish",answer="allow"} 1"#,
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
}

/// A certificate for `localhost`, in a folder.
fn tls(authority: &Authority, folder: &std::path::Path) -> TlsConfig {
    let (certificate, key) = authority.sign(&["localhost"]).write(folder);
    let free = "127.0.0.1:0".parse().unwrap();
    TlsConfig {
        certificate: CertificateSource::Files(PairFiles { certificate, key }),
        https: free,
        mqtts: free,
        plain: PlainListeners::default(),
        hsts: false,
        device_ca: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_may_show_a_certificate_in_place_of_a_secret() {
    let (servers, brokers, folder) =
        (Authority::new("servers"), Authority::new("brokers"), tempfile::tempdir().unwrap());
    let ca = folder.path().join("brokers.pem");
    std::fs::write(&ca, brokers.pem()).unwrap();
    let tls = tls(&servers, folder.path());
    let mut auth = settings();
    (auth.secret, auth.ca) = (None, Some(ca));
    let bench = Bench::start_with(|config| {
        config.tls = Some(tls);
        config.mqtt = broker(auth);
    });
    let bench = bench.await;
    let address = bench.server.broker_auth().unwrap();
    let question = json!({"client_id": "lamp"}).to_string();
    let shown = brokers.sign(&["rabbit"]);
    let stream = TcpStream::connect(address).await.unwrap();
    let stream = handshake(&servers.client(Some(&shown)), stream).await.unwrap();
    assert_eq!(send(stream, CONNECT, "", &question).await.0, 200);
    for shows in [None, Some(&servers.sign(&["rabbit"]))] {
        let stream = TcpStream::connect(address).await.unwrap();
        // With TLS 1.3 a client hears of it when it reads.
        let status = match handshake(&servers.client(shows), stream).await {
            Ok(stream) => send(stream, CONNECT, "", &question).await.0,
            Err(_) => 0,
        };
        assert_eq!(status, 0, "nothing is answered");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn off_this_machine_passwords_come_over_tls_only() {
    let (servers, folder) = (Authority::new("servers"), tempfile::tempdir().unwrap());
    let mut auth = settings();
    auth.listen = "0.0.0.0:0".parse().unwrap();
    let speaks = tls(&servers, folder.path());
    let bench = Bench::start_with(|config| {
        config.tls = Some(speaks);
        config.mqtt = broker(auth.clone());
    });
    let bench = bench.await;
    let port = bench.server.broker_auth().unwrap().port();
    let question = json!({"client_id": "lamp"}).to_string();
    let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let stream = handshake(&servers.client(None), stream).await.unwrap();
    assert_eq!(send(stream, CONNECT, &bearer(SECRET), &question).await.0, 200);
    let plain = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    assert_eq!(send(plain, CONNECT, &bearer(SECRET), &question).await.0, 400, "plain HTTP is told so");

    let mut config = bench.server.app().config.clone();
    (config.tls, config.http_limits) = (None, Limits::default());
    // A server of its own, which shares nothing with the first.
    (config.data, config.database) = (folder.path().join("data"), None);
    let error = Server::start(config.clone()).await.err().unwrap();
    assert!(
        matches!(error, StartError::BrokerAuthInClear(_)) && error.to_string().contains("--tls-dev"),
        "{error}"
    );
    (auth.listen, auth.secret) = ("127.0.0.1:0".parse().unwrap(), None);
    config.mqtt = broker(auth);
    let error = Server::start(config).await.err().unwrap();
    assert!(error.to_string().contains("--broker-auth-secret-file"), "{error}");
}
