//! Credentials end now: who is connected to the embedded broker with one that is revoked, expired, retired or replaced is put out, and
//! what it left there goes with a device.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::http::Method;
use otaru_rollout::Time;
use otaru_server::clock::Clock;
use serde_json::{Value, json};

use crate::bench::Bench;
use crate::wire::Wire;

/// 2026-11-29T03:24:44.123Z.
const NOW: u64 = 1_795_922_684_123;

async fn token(bench: &Bench, new: Value) -> (String, String) {
    let made = bench.post("/tokens", new).await.is(201).json();
    (made["id"].as_str().unwrap().to_owned(), made["text"].as_str().unwrap().to_owned())
}

/// Adds a device, and returns its password.
async fn device(bench: &Bench, id: &str) -> String {
    let made = bench.post("/devices", json!({"id": id})).await.is(201).json();
    made["password"].as_str().unwrap().to_owned()
}

/// Connects, and fails if that is refused.
async fn connect(bench: &Bench, client: &str, username: &str, password: &str) -> Wire {
    Wire::connect(bench, client, username, password).await.unwrap_or_else(|| panic!("{client} is refused"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_token_is_put_out_and_others_stay() {
    let bench = Bench::start().await;
    let (id, text) = token(&bench, json!({"name": "push", "role": "operator"})).await;
    let (_, other) = token(&bench, json!({"name": "watch", "role": "viewer"})).await;
    let ended = connect(&bench, "push", "x", &text).await;
    let mut stays = connect(&bench, "push", "x", &other).await;
    bench.ask(Some(&bench.admin), Method::DELETE, &format!("/tokens/{id}"), None).await.is(204);
    ended.ended().await;
    assert!(Wire::connect(&bench, "push", "x", &text).await.is_none());
    stays.goes_on().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_expires_is_put_out() {
    let now = Arc::new(AtomicU64::new(NOW));
    let clock = Arc::clone(&now);
    let bench = Bench::start_at(|_| {}, Clock::new(move || Time(clock.load(Ordering::Relaxed)))).await;
    let new = json!({"name": "push", "role": "operator", "expires_at": "2026-11-29T03:25:44Z"});
    let (_, text) = token(&bench, new).await;
    let mut wire = connect(&bench, "push", "x", &text).await;
    now.store(NOW + 59_000, Ordering::Relaxed);
    wire.goes_on().await;
    now.store(NOW + 60_000, Ordering::Relaxed);
    wire.ended().await;
    assert!(Wire::connect(&bench, "push", "x", &text).await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_fleet_key_takes_its_devices_along() {
    let bench = Bench::start().await;
    let key = |name: &str| {
        let new = json!({"name": name});
        async { bench.post("/fleet-keys", new).await.is(201).json() }
    };
    let (line, other) = (key("line").await, key("other").await);
    let text = |key: &Value| key["text"].as_str().unwrap().to_owned();
    let lamps = [
        connect(&bench, "lamp-1", "x", &text(&line)).await,
        connect(&bench, "lamp-2", "x", &text(&line)).await,
    ];
    let mut hall = connect(&bench, "hall", "x", &text(&other)).await;
    let mut own = connect(&bench, "own", "own", &device(&bench, "own").await).await;
    let path = format!("/fleet-keys/{}", line["id"].as_str().unwrap());
    bench.ask(Some(&bench.admin), Method::DELETE, &path, None).await.is(204);
    for lamp in lamps {
        lamp.ended().await;
    }
    assert!(Wire::connect(&bench, "lamp-1", "x", &text(&line)).await.is_none());
    hall.goes_on().await;
    own.goes_on().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retired_device_is_put_out_and_what_it_left_is_forgotten() {
    let bench = Bench::start().await;
    let (_, watch) = token(&bench, json!({"name": "watch", "role": "viewer"})).await;
    let mut wires = Vec::new();
    for id in ["lamp", "lamp2"] {
        let mut wire = connect(&bench, id, id, &device(&bench, id).await).await;
        wire.retain(&format!("ESP32/ota/{id}/status"), "{}").await;
        wires.push(wire);
    }
    bench.post("/devices/lamp/retire", json!({})).await.is(200);
    let (mut other, lamp) = (wires.pop().unwrap(), wires.pop().unwrap());
    lamp.ended().await;
    other.goes_on().await;
    let mut watching = connect(&bench, "watch", "x", &watch).await;
    assert_eq!(watching.retained("ESP32/ota/+/status").await, ["ESP32/ota/lamp2/status"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_login_puts_out_who_has_the_old_one() {
    let bench = Bench::start().await;
    let old = device(&bench, "lamp").await;
    let impostor = connect(&bench, "lamp", "lamp", &old).await;
    let made = bench.post("/devices/lamp/password", json!({})).await.json();
    impostor.ended().await;
    assert!(Wire::connect(&bench, "lamp", "lamp", &old).await.is_none());
    let lamp = connect(&bench, "lamp", "lamp", made["password"].as_str().unwrap()).await;
    // A claim that an admin allows is a new login, too.
    let key = bench.post("/fleet-keys", json!({"name": "line"})).await.is(201).json();
    bench.post("/devices/lamp/allow-claim", json!({})).await.is(200);
    let claim = json!({"device": "lamp", "fleet_key": key["text"]});
    bench.ask(None, Method::POST, "/claim", Some(claim)).await.is(201);
    lamp.ended().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_id_takes_nothing_from_anybody() {
    let bench = Bench::start().await;
    let (_, text) = token(&bench, json!({"name": "push", "role": "operator"})).await;
    // An operator's tool is called as a device that comes later, and as one that is there.
    let mut early = connect(&bench, "lamp", "x", &text).await;
    let mut lamp = connect(&bench, "lamp", "lamp", &device(&bench, "lamp").await).await;
    let mut late = connect(&bench, "other", "x", &text).await;
    for wire in [&mut early, &mut lamp, &mut late] {
        wire.goes_on().await;
    }
    let again = connect(&bench, "lamp", "x", &text).await;
    early.ended().await;
    lamp.goes_on().await;
    drop(again);
}
