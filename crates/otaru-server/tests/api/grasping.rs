//! Those who have a login at the embedded broker and want more than their share: sessions without end, names without end, names of
//! others. Credentials that end are in `endings.rs`.

use axum::http::Method;
use serde_json::json;

use crate::bench::Bench;
use crate::wire::{Level, Wire};

async fn token(bench: &Bench, role: &str) -> String {
    let made = bench.post("/tokens", json!({"name": role, "role": role})).await.is(201).json();
    made["text"].as_str().unwrap().to_owned()
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
        let mut wire = Wire::login(&bench, Level::V5, &device, "x", key).await.ok().unwrap();
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
