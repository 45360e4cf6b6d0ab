//! A credential that ends may do nothing more from that moment on, whether or not the broker ends its connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use otaru_rollout::Time;
use otaru_server::clock::Clock;
use serde_json::json;

use super::{Asked, broker, settings};
use crate::bench::{Bench, LIMIT};

const STATUS: &str = "ESP32/ota/lamp/status";

#[tokio::test(flavor = "multi_thread")]
async fn a_retired_device_may_do_nothing_from_then_on() {
    let asked = Asked::start().await;
    let (lamp, hall) = (asked.device("lamp").await, asked.device("hall").await);
    for (device, password) in [("lamp", &lamp), ("hall", &hall)] {
        assert!(asked.connects(device, device, password).await);
    }
    asked.bench.post("/devices/lamp/retire", json!({})).await.is(200);
    assert!(!asked.publishes("lamp", "lamp", STATUS).await, "its connection is still there");
    assert!(!asked.subscribes("lamp", "lamp", "ESP32/ota/lamp/update").await);
    assert!(!asked.connects("lamp", "lamp", &lamp).await);
    assert!(asked.publishes("hall", "hall", "ESP32/ota/hall/status").await, "others go on");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_has_the_old_password_may_do_nothing_from_then_on() {
    let asked = Asked::start().await;
    let old = asked.device("lamp").await;
    assert!(asked.connects("lamp", "lamp", &old).await);
    let made = asked.bench.post("/devices/lamp/password", json!({})).await.json();
    assert!(!asked.publishes("lamp", "lamp", STATUS).await && !asked.connects("lamp", "lamp", &old).await);
    assert!(!asked.publishes("lamp", "lamp", STATUS).await, "also after it has tried");
    assert!(asked.connects("lamp", "lamp", made["password"].as_str().unwrap()).await);
    assert!(asked.publishes("lamp", "lamp", STATUS).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_key_takes_its_devices_along_and_a_revoked_token_itself() {
    let asked = Asked::start().await;
    let (key, text) = asked.make("/fleet-keys", json!({"name": "line"})).await;
    let (token, operator) = asked.token("operator").await;
    assert!(asked.connects("lamp", "lamp", &text).await && asked.connects("push", "me", &operator).await);
    asked.revoke("/fleet-keys", &key).await;
    asked.revoke("/tokens", &token).await;
    assert!(!asked.publishes("lamp", "lamp", STATUS).await && !asked.connects("lamp", "lamp", &text).await);
    assert!(!asked.publishes("push", "me", STATUS).await && !asked.connects("push", "me", &operator).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_expires_may_do_nothing_from_then_on() {
    /// 2026-11-29T03:24:44.123Z.
    const NOW: u64 = 1_795_922_684_123;
    let now = Arc::new(AtomicU64::new(NOW));
    let clock = Arc::clone(&now);
    let clock = Clock::new(move || Time(clock.load(Ordering::Relaxed)));
    let bench = Bench::start_at(|config| config.mqtt = broker(settings()), clock).await;
    let address = bench.server.broker_auth().unwrap();
    let asked = Asked { bench, address };
    let new = json!({"name": "push", "role": "operator", "expires_at": "2026-11-29T03:25:44Z"});
    let (_, text) = asked.make("/tokens", new).await;
    assert!(asked.connects("push", "me", &text).await);
    now.store(NOW + 60_000, Ordering::Relaxed);
    let connections = &asked.bench.server.app().connections;
    assert!(!asked.publishes("push", "me", STATUS).await);
    // Where its connection can be ended, that is done as well.
    let ended = async {
        while !connections.tokens().is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LIMIT, ended).await.expect("its end is noticed");
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_that_logged_in_before_the_server_started_go_on_if_they_still_may() {
    let asked = Asked::start().await;
    asked.device("lamp").await;
    asked.device("gone").await;
    asked.bench.post("/devices/gone/retire", json!({})).await.is(200);
    // This server has seen no login.
    assert!(asked.publishes("lamp", "lamp", STATUS).await);
    assert!(asked.subscribes("lamp", "lamp", "ESP32/ota/lamp/update").await);
    assert!(!asked.publishes("gone", "gone", "ESP32/ota/gone/status").await, "retired");
    assert!(!asked.publishes("hall", "me", "ESP32/ota/hall/status").await, "a token, or nobody");
    let (key, text) = asked.make("/fleet-keys", json!({"name": "line"})).await;
    assert!(asked.connects("f", "f", &text).await);
    asked.revoke("/fleet-keys", &key).await;
    assert!(!asked.publishes("f", "f", "ESP32/ota/f/status").await);
}
