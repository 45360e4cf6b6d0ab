//! The rules are the embedded broker's: devices, fleet keys, tokens, certificates, and whose a client id is.

use serde_json::{Value, json};

use super::{Asked, SERVER, is_allowed};

#[tokio::test(flavor = "multi_thread")]
async fn a_device_logs_in_with_its_own_and_reaches_its_own() {
    let asked = Asked::start().await;
    let (lamp, hall) = (asked.device("lamp").await, asked.device("hall").await);
    assert!(asked.connects("lamp", "lamp", &lamp).await);
    for (client, username, password) in [
        ("lamp", "lamp", "wrong"),
        ("lamp", "lamp", ""),
        ("lamp", "lamp", hall.as_str()),
        ("lamp", "other", lamp.as_str()),
        ("hall", "lamp", lamp.as_str()),
        ("hall", "hall", lamp.as_str()),
        ("", "lamp", lamp.as_str()),
    ] {
        assert!(!asked.connects(client, username, password).await, "{client} {username}");
    }
    for (topic, may) in [
        ("ESP32/ota/lamp/status", true),
        ("ESP32/ota/lamp/online", true),
        ("ESP32/ota/progress", true),
        ("ESP32/ota/lamp/update", false),
        ("ESP32/ota/hall/status", false),
        ("ESP32/ota/update", false),
    ] {
        assert_eq!(asked.publishes("lamp", "lamp", topic).await, may, "{topic}");
    }
    for (filter, may) in [
        ("ESP32/ota/lamp/update", true),
        ("ESP32/ota/update", true),
        ("ESP32/ota/hall/update", false),
        ("ESP32/ota/+/update", false),
        ("#", false),
    ] {
        assert_eq!(asked.subscribes("lamp", "lamp", filter).await, may, "{filter}");
    }
    assert!(!asked.publishes("lamp", "other", "ESP32/ota/lamp/status").await, "another's user name");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_key_registers_its_device() {
    let asked = Asked::start().await;
    let (_, key) = asked.make("/fleet-keys", json!({"name": "line", "tags": {"line": "1"}})).await;
    assert!(asked.connects("lamp-1", "factory", &key).await);
    let device = asked.bench.get("/devices/lamp-1").await.is(200).json();
    assert_eq!(device["tags"]["line"], "1", "{device}");
    assert!(asked.publishes("lamp-1", "factory", "ESP32/ota/lamp-1/status").await);
    assert!(!asked.connects("a/b", "factory", &key).await, "no name of a device");
    let own = asked.device("own").await;
    assert!(
        !asked.connects("own", "factory", &key).await,
        "a device with a password is not opened by a fleet key"
    );
    assert!(asked.connects("own", "own", &own).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_does_what_its_role_may() {
    let asked = Asked::start().await;
    let (_, viewer) = asked.token("viewer").await;
    let (_, operator) = asked.token("operator").await;
    for (client, token, may) in [("watch", &viewer, false), ("push", &operator, true)] {
        assert!(asked.connects(client, "me", token).await);
        assert_eq!(asked.publishes(client, "me", "ESP32/ota/update").await, may);
        assert!(asked.subscribes(client, "me", "#").await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_id_belongs_to_whoever_has_it() {
    let asked = Asked::start().await;
    let (first, one) = asked.token("operator").await;
    let (_, other) = asked.token("operator").await;
    let lamp = asked.device("lamp").await;
    assert!(!asked.connects("lamp", "me", &one).await, "a device's name, also before it has come");
    assert!(asked.connects("lamp", "lamp", &lamp).await);
    assert!(!asked.connects("push", "push", &one).await, "as a device logs in");
    assert!(asked.connects("push", "me", &one).await);
    assert!(!asked.connects("push", "me", &other).await, "another token's");
    assert!(asked.connects("push", "me", &one).await, "as often as it likes");
    asked.revoke("/tokens", &first).await;
    assert!(asked.connects("push", "me", &other).await, "which has ended");
    // A tool that was called as a device is before that came.
    let (_, key) = asked.make("/fleet-keys", json!({"name": "line"})).await;
    assert!(asked.connects("hall", "me", &other).await);
    assert!(asked.connects("hall", "factory", &key).await, "a device has its name");
    assert!(!asked.publishes("hall", "me", "ESP32/ota/update").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_itself_is_let_in_with_its_own_login() {
    let asked = Asked::start().await;
    assert!(!asked.connects("otaru-server", SERVER.0, "wrong").await);
    assert!(!asked.publishes("otaru-server", SERVER.0, "ESP32/ota/lamp/update").await);
    assert!(asked.connects("otaru-server", SERVER.0, SERVER.1).await);
    assert!(asked.publishes("otaru-server", SERVER.0, "ESP32/ota/lamp/update").await);
    assert!(asked.subscribes("otaru-server", SERVER.0, "ESP32/ota/+/status").await);
}

fn certificate(client: &str, common_name: &str, serial: &str) -> Value {
    json!({"client_id": client, "username": "", "certificate": {"common_name": common_name, "serial": serial}})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_the_broker_checked_is_a_login() {
    let asked = Asked::start().await;
    let connects = async |client: &str, name: &str, serial: &str| {
        is_allowed(&asked.ask("connect", certificate(client, name, serial)).await)
    };
    assert!(connects("lamp", "lamp", "0A:BC").await, "it is registered");
    assert!(connects("lamp", "lamp", "abc").await, "the same one");
    assert!(!connects("hall", "lamp", "abc").await && !connects("hall", "hall", "abc").await, "another's");
    assert!(is_allowed(
        &asked.ask("publish", json!({"client_id": "lamp", "topic": "ESP32/ota/lamp/status"})).await
    ));
    asked.bench.post("/devices/lamp/password", json!({})).await.is(200);
    assert!(!connects("lamp", "lamp", "abc").await, "it was replaced");
    assert!(connects("lamp", "lamp", "def").await, "a new one");
    asked.bench.post("/devices/lamp/retire", json!({})).await.is(200);
    assert!(!connects("lamp", "lamp", "def").await && !connects("lamp", "lamp", "123").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_let_in_without_a_login() {
    let asked = Asked::start().await;
    for login in [json!({"client_id": "lamp"}), json!({"client_id": "lamp", "address": "127.0.0.1"})] {
        assert!(!is_allowed(&asked.ask("connect", login).await));
    }
    assert!(!asked.publishes("lamp", "lamp", "ESP32/ota/lamp/status").await);
}
