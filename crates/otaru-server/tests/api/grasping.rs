//! Graspers: those that have a login at the embedded broker and want more than their share: sessions without end, names without end,
//! names of others. Credentials that end are in `endings.rs`.

use std::time::Duration;

use axum::http::Method;
use serde_json::json;
use tokio::time::timeout;

use crate::bench::{Bench, LIMIT};
use crate::wire::{Level, Wire};

async fn token(bench: &Bench, role: &str) -> String {
    let made = bench.post("/tokens", json!({"name": role, "role": role})).await.is(201).json();
    made["text"].as_str().unwrap().to_owned()
}

/// A report of a version, `more` bytes longer than need be.
fn report(device: &str, version: &str, more: usize) -> String {
    json!({
        "device": device, "chip": "esp32c3", "state": "idle", "project": "lamp", "version": version,
        "image": "0".repeat(64), "slot": 0, "confirmed": true, "boot": "power_on", "uptime": 1,
        "more": "x".repeat(more),
    })
    .to_string()
}

/// Waits until the server knows that a device runs this version.
async fn is_seen(bench: &Bench, device: &str, version: &str) {
    let seen = async {
        while bench.get(&format!("/devices/{device}")).await.json()["version"] != version {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(LIMIT, seen).await.expect("the server hears it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_makes_session_after_session_is_refused_and_nobody_else() {
    let bench = Bench::start().await;
    let (viewer, operator) = (token(&bench, "viewer").await, token(&bench, "operator").await);
    let mut refusals = Vec::new();
    for number in 0..150 {
        let login = Wire::login(&bench, Level::V5, &format!("v-{number}"), "x", &viewer).await;
        refusals.extend(login.err());
    }
    assert!(refusals.len() >= 30 && refusals.iter().all(|code| *code == 0x9F), "{refusals:?}");
    Wire::connect(&bench, "push", "x", &operator).await.expect("another token").goes_on().await;
    bench.get("/fleet").await.is(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn invented_names_of_a_fleet_key_retain_only_so_much_together() {
    const KEPT: usize = 7_900;
    let bench = Bench::start().await;
    let made = bench.post("/fleet-keys", json!({"name": "line"})).await.is(201).json();
    let (key, id) = (made["text"].as_str().unwrap(), made["id"].as_str().unwrap());
    let (mut kept, mut refused) = (0, 0);
    for number in 0..120 {
        let device = format!("invented-{number}");
        // Half of them have claimed a password of their own: they came with the key all the same.
        let mut password = key.to_owned();
        if number % 2 == 0 {
            let claim = json!({"device": device, "fleet_key": key});
            let claimed = bench.ask(None, Method::POST, "/claim", Some(claim)).await.is(201).json();
            password = claimed["password"].as_str().unwrap().to_owned();
        }
        let mut wire = Wire::login(&bench, Level::V5, &device, &device, &password).await.ok().unwrap();
        for leaf in ["status", "online", "heartbeat"] {
            let topic = format!("ESP32/ota/{device}/{leaf}");
            match wire.keeps(&topic, &"x".repeat(KEPT)).await {
                0 => kept += KEPT,
                code => {
                    assert_eq!(code, 0x97);
                    refused += 1;
                }
            }
        }
    }
    assert!(refused > 0 && kept <= (2 << 20) + 120 * 1_280, "{kept} bytes kept, {refused} refused");
    // One more takes what is left of the total, but for some bytes.
    let mut last = Wire::login(&bench, Level::V5, "last", "x", key).await.ok().unwrap();
    for (leaf, bytes) in [("status", KEPT), ("heartbeat", 4_000), ("online", 2_000)] {
        last.keeps(&format!("ESP32/ota/last/{leaf}"), &"x".repeat(bytes)).await;
    }
    // An honest device of the same key keeps what is its own all the same, and more than that is heard, at least.
    let mut honest = Wire::login(&bench, Level::V5, "honest", "x", key).await.ok().unwrap();
    assert_eq!(honest.keeps("ESP32/ota/honest/online", "online").await, 0);
    assert_eq!(honest.keeps("ESP32/ota/honest/status", &report("honest", "1.0.1", 0)).await, 0);
    is_seen(&bench, "honest", "1.0.1").await;
    assert_eq!(honest.keeps("ESP32/ota/honest/status", &report("honest", "1.0.2", 3_400)).await, 0x97);
    is_seen(&bench, "honest", "1.0.2").await;
    // Who has a key of its own, or a password, has nothing to do with it.
    let own = bench.post("/devices", json!({"id": "own"})).await.is(201).json();
    let mut own =
        Wire::login(&bench, Level::V5, "own", "own", own["password"].as_str().unwrap()).await.ok().unwrap();
    assert_eq!(own.keeps("ESP32/ota/own/status", &"x".repeat(KEPT)).await, 0);
    bench.ask(Some(&bench.admin), Method::DELETE, &format!("/fleet-keys/{id}"), None).await.is(204);
    own.goes_on().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_id_of_others_shuts_nobody_out() {
    let bench = Bench::start().await;
    let (viewer, operator) = (token(&bench, "viewer").await, token(&bench, "operator").await);
    let made = bench.post("/fleet-keys", json!({"name": "line"})).await.is(201).json();
    let key = made["text"].as_str().unwrap();
    let mut taken = Vec::new();
    for client in ["push", "lamp", "hall"] {
        taken.push(Wire::connect(&bench, client, "x", &viewer).await.unwrap());
    }
    // An operator's tool, a device that is added only now, and one that comes with a fleet key.
    let added = bench.post("/devices", json!({"id": "lamp"})).await.is(201).json();
    let logins = [("push", operator.as_str()), ("lamp", added["password"].as_str().unwrap()), ("hall", key)];
    let mut owners = Vec::new();
    for (client, password) in logins {
        owners.push(Wire::connect(&bench, client, client, password).await.expect(client));
    }
    for wire in taken.iter_mut().chain(&mut owners) {
        wire.goes_on().await;
    }
    // Whoever comes again and again takes nothing over but its own.
    for _ in 0..10 {
        for client in ["push", "lamp", "hall"] {
            Wire::connect(&bench, client, "x", &viewer).await.unwrap();
            assert!(Wire::connect(&bench, client, client, "wrong").await.is_none());
        }
    }
    for owner in &mut owners {
        owner.goes_on().await;
    }
}
