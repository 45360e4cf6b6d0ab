//! A broker of somebody else's that asks the server who may do what there.

mod ended;
mod gate;
mod management;
mod others;
mod rabbitmq;
mod rules;

use std::net::SocketAddr;

use axum::http::Method;
use otaru_broker::client::{BrokerUrl, Secret};
use otaru_server::config::{BrokerAuthConfig, MqttConfig};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::bench::{Bench, LIMIT};
use crate::hostile::status;

/// Secret of the broker.
const SECRET: &str = "between-broker-and-server";
/// The server's own login at the broker.
const SERVER: (&str, &str) = ("otaru", "own-password-there");

/// A server that a broker asks.
struct Asked {
    bench: Bench,
    address: SocketAddr,
}

/// Settings with the usual secret, on loopback.
fn settings() -> BrokerAuthConfig {
    BrokerAuthConfig {
        listen: "127.0.0.1:0".parse().unwrap(),
        secret: Some(Secret::new(SECRET)),
        ca: None,
        management: None,
    }
}

/// A broker that is away, but for its questions.
fn broker(auth: BrokerAuthConfig) -> MqttConfig {
    let mut url = BrokerUrl::new("127.0.0.1", 1);
    (url.username, url.password) = (Some(SERVER.0.to_owned()), Some(Secret::new(SERVER.1)));
    MqttConfig::External { url, auth: Some(Box::new(auth)) }
}

impl Asked {
    async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    async fn start_with(change: impl FnOnce(&mut BrokerAuthConfig)) -> Self {
        let mut auth = settings();
        change(&mut auth);
        let bench = Bench::start_with(|config| config.mqtt = broker(auth)).await;
        let address = bench.server.broker_auth().unwrap();
        Self { bench, address }
    }

    /// Sends a question; returns the status and the body of the answer.
    async fn send(&self, path: &str, more: &str, body: &str) -> (u16, String) {
        let stream = TcpStream::connect(self.address).await.unwrap();
        send(stream, path, more, body).await
    }

    /// Asks in JSON.
    async fn ask(&self, question: &str, body: Value) -> Value {
        let bearer = format!("Authorization: Bearer {SECRET}\r\n");
        let (status, text) = self.send(&format!("/v1/broker/{question}"), &bearer, &body.to_string()).await;
        assert_eq!(status, 200, "{text}");
        serde_json::from_str(&text).unwrap()
    }

    /// Whether somebody may log in.
    async fn connects(&self, client: &str, username: &str, password: &str) -> bool {
        let login = json!({"client_id": client, "username": username, "password": password});
        is_allowed(&self.ask("connect", login).await)
    }

    /// Whether a client may publish on a topic.
    async fn publishes(&self, client: &str, username: &str, topic: &str) -> bool {
        let wish =
            json!({"client_id": client, "username": username, "topic": topic, "qos": 1, "retain": true});
        is_allowed(&self.ask("publish", wish).await)
    }

    /// Whether a client may subscribe to a filter.
    async fn subscribes(&self, client: &str, username: &str, filter: &str) -> bool {
        let wish = json!({"client_id": client, "username": username, "topic": filter, "qos": 1});
        is_allowed(&self.ask("subscribe", wish).await)
    }

    /// Adds a device, and returns its password.
    async fn device(&self, id: &str) -> String {
        let made = self.bench.post("/devices", json!({"id": id})).await.is(201).json();
        made["password"].as_str().unwrap().to_owned()
    }

    /// Makes a token or a fleet key; returns its id and its text.
    async fn make(&self, what: &str, new: Value) -> (String, String) {
        let made = self.bench.post(what, new).await.is(201).json();
        (made["id"].as_str().unwrap().to_owned(), made["text"].as_str().unwrap().to_owned())
    }

    async fn token(&self, role: &str) -> (String, String) {
        self.make("/tokens", json!({"name": role, "role": role})).await
    }

    async fn revoke(&self, what: &str, id: &str) {
        let path = format!("{what}/{id}");
        self.bench.ask(Some(&self.bench.admin), Method::DELETE, &path, None).await.is(204);
    }
}

/// Sends a question over a stream, and reads the answer to its end.
async fn send(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    path: &str,
    more: &str,
    body: &str,
) -> (u16, String) {
    let length = body.len();
    let head =
        format!("POST {path} HTTP/1.1\r\nHost: otaru\r\nConnection: close\r\nContent-Length: {length}\r\n");
    stream.write_all(format!("{head}{more}\r\n{body}").as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = timeout(LIMIT, stream.read_to_end(&mut answer)).await.unwrap();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body).to_owned();
    (status(&answer), body)
}

fn is_allowed(answer: &Value) -> bool {
    match answer["result"].as_str() {
        Some("allow") => true,
        Some("deny") => {
            assert!(answer["reason"].as_str().unwrap().len() > 8, "it says why: {answer}");
            false
        }
        other => panic!("{other:?} in {answer}"),
    }
}
