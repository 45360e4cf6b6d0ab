//! RabbitMQ's management API, played: connections of credentials that end are ended there, however often that fails at first.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri, header};
use axum::response::IntoResponse as _;
use otaru_broker::client::{Login, Secret};
use otaru_server::config::BrokerManagement;
use serde_json::json;
use tokio::time::timeout;

use super::Asked;
use crate::bench::LIMIT;

/// Management of a broker.
#[derive(Default)]
struct Played {
    /// Connections: name and client id.
    connections: Vec<(&'static str, &'static str)>,
    /// Requests that are still to fail.
    fails: usize,
    deleted: Vec<String>,
}

type Shared = Arc<Mutex<Played>>;

async fn answer(
    State(played): State<Shared>,
    method: Method,
    uri: Uri,
    headers: axum::http::HeaderMap,
) -> axum::response::Response {
    let mut played = played.lock().unwrap();
    // guest:s3cret
    if headers.get(header::AUTHORIZATION).is_none_or(|login| login != "Basic Z3Vlc3Q6czNjcmV0") {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    if played.fails > 0 {
        played.fails -= 1;
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    if method == Method::DELETE {
        played.deleted.push(uri.path().to_owned());
        return StatusCode::NO_CONTENT.into_response();
    }
    assert_eq!(uri.path(), "/mgmt/api/connections");
    // As RabbitMQ 3.10 writes them.
    let each = played.connections.iter().map(|(name, client)| {
        format!(r#"{{"client_properties":{{}},"client_properties":{{}},"name":"{name}","variable_map":{{"client_id":"{client}"}}}}"#)
    });
    format!(r#"[{},{{"name":"amqp"}}]"#, each.collect::<Vec<_>>().join(",")).into_response()
}

/// A server that ends connections there.
async fn start(played: Played) -> (Asked, Shared) {
    let played = Arc::new(Mutex::new(played));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mgmt", listener.local_addr().unwrap());
    let router = Router::new().fallback(answer).with_state(Arc::clone(&played));
    tokio::spawn(async move { axum::serve(listener, router).await });
    let login = Login { username: "guest".into(), password: Secret::new("s3cret") };
    let asked = Asked::start_with(|auth| {
        auth.management = Some(BrokerManagement { url, login, trust: otaru_tls::Trust::default() });
    });
    (asked.await, played)
}

/// Waits until this was deleted.
async fn deletes(played: &Shared, path: &str) {
    let deleted = async {
        while !played.lock().unwrap().deleted.iter().any(|deleted| deleted == path) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let done = timeout(LIMIT, deleted).await;
    assert!(done.is_ok(), "not {path} but {:?}", played.lock().unwrap().deleted);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_has_its_name_as_user_name_is_ended_by_that() {
    let (asked, played) = start(Played { fails: 3, ..Played::default() }).await;
    let lamp = asked.device("lamp-1").await;
    assert!(asked.connects("lamp-1", "lamp-1", &lamp).await);
    asked.bench.post("/devices/lamp-1/retire", json!({})).await.is(200);
    deletes(&played, "/mgmt/api/connections/username/lamp%2D1").await;
    assert_eq!(played.lock().unwrap().fails, 0, "it failed three times before");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_shares_a_user_name_is_ended_by_its_client_id_alone() {
    let connections = vec![("10.0.0.1:5 -> x", "hall"), ("10.0.0.2:6 -> x", "lamp")];
    let (asked, played) = start(Played { connections, ..Played::default() }).await;
    let (_, key) = asked.make("/fleet-keys", json!({"name": "line"})).await;
    let (token, operator) = asked.token("operator").await;
    for device in ["hall", "lamp"] {
        assert!(asked.connects(device, "factory", &key).await);
    }
    assert!(asked.connects("push", "factory", &operator).await);
    asked.bench.post("/devices/lamp/retire", json!({})).await.is(200);
    deletes(&played, "/mgmt/api/connections/10%2E0%2E0%2E2%3A6%20%2D%3E%20x").await;
    played.lock().unwrap().connections.push(("10.0.0.3:7 -> x", "push"));
    asked.revoke("/tokens", &token).await;
    deletes(&played, "/mgmt/api/connections/10%2E0%2E0%2E3%3A7%20%2D%3E%20x").await;
    let deleted = played.lock().unwrap().deleted.clone();
    assert!(deleted.iter().all(|path| !path.contains("2E1%3A5") && !path.contains("factory")), "{deleted:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_has_logged_in_anew_is_left_alone() {
    let (asked, played) = start(Played::default()).await;
    let old = asked.device("lamp").await;
    assert!(asked.connects("lamp", "lamp", &old).await);
    let made = asked.bench.post("/devices/lamp/password", json!({})).await.json();
    deletes(&played, "/mgmt/api/connections/username/lamp").await;
    assert!(asked.connects("lamp", "lamp", made["password"].as_str().unwrap()).await);
    let before = played.lock().unwrap().deleted.len();
    asked.bench.post("/devices", json!({"id": "hall"})).await.is(201);
    asked.bench.post("/devices/hall/retire", json!({})).await.is(200);
    // Longer than until the last look.
    tokio::time::sleep(Duration::from_secs(10)).await;
    let deleted = played.lock().unwrap().deleted[before..].to_vec();
    assert!(!deleted.is_empty() && deleted.iter().all(|path| path.ends_with("/hall")), "{deleted:?}");
}
