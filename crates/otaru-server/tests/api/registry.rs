//! Bounds on the number of devices: in all, with one fleet key, and on the claims of one name.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::body::Body;
use axum::http::{Method, Request, header};
use base64::Engine as _;
use mqtt5::{ConnectOptions, MqttClient, PublishOptions, QoS};
use otaru_api::FleetKey;
use otaru_rollout::{DeviceId, Time};
use otaru_server::access::devices::verify;
use otaru_server::clock::Clock;
use otaru_server::db::DbError;
use otaru_server::devices::bounds::Bounds;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use crate::bench::{Answer, Bench, LIMIT};
use crate::wire::{Level, Wire};

fn report(device: &str) -> Value {
    json!({
        "device": device, "chip": "esp32c3", "state": "idle", "project": "lamp", "version": "1", "image": "0".repeat(64),
        "slot": 0, "confirmed": true, "boot": "power_on", "uptime": 1,
    })
}

impl Bench {
    pub(crate) async fn fleet_key(&self, more: Value) -> String {
        let mut new = json!({"name": "line"});
        new.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.post("/fleet-keys", new).await.is(201).json()["text"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn claim(&self, device: &str, key: &str) -> Answer {
        let body = json!({"device": device, "fleet_key": key});
        self.ask(None, Method::POST, "/claim", Some(body)).await
    }

    /// Fails unless a login over MQTT is told that there is no room: not that its password is wrong.
    async fn is_full(&self, device: &str, key: &str) {
        for (level, code) in [(Level::V5, 0x97), (Level::V311, 3)] {
            let refusal = Wire::login(self, level, device, "x", key).await.err();
            assert_eq!(refusal, Some(code), "{level:?}");
        }
        let wrong = Wire::login(self, Level::V5, device, "x", "fleet_wrong").await.err();
        assert_eq!(wrong, Some(0x86));
    }

    /// Reports over HTTP with this password.
    async fn reports(&self, device: &str, password: &str) -> Answer {
        let basic = base64::engine::general_purpose::STANDARD.encode(format!("{device}:{password}"));
        let request = Request::post(format!("/api/v1/devices/{device}/status"))
            .header(header::AUTHORIZATION, format!("Basic {basic}"))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(report(device).to_string()));
        self.send(request.unwrap()).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_takes_so_many_devices() {
    let bench = Bench::start_with(|config| {
        config.dev = true;
        config.device_limits = Bounds { devices: 3, ..Bounds::default() };
    })
    .await;
    let key = bench.fleet_key(json!({})).await;
    bench.claim("a", &key).await.is(201);
    bench.reports("b", &key).await.is(200);
    bench.post("/devices", json!({"id": "c"})).await.is(201);
    // Whichever way a fourth one comes.
    let told = bench.claim("d", &key).await.problem(409, "no-room").json()["detail"].to_string();
    assert!(told.contains("the server has 3 devices") && told.contains("--max-devices"), "{told}");
    bench.post("/devices", json!({"id": "d"})).await.problem(409, "no-room");
    bench.reports("d", &key).await.problem(409, "no-room");
    bench.is_full("d", &key).await;
    let stranger = MqttClient::with_options(ConnectOptions::new("d").with_automatic_reconnect(false));
    timeout(LIMIT, stranger.connect(&bench.server.mqtt_url().to_string())).await.unwrap().unwrap();
    let says = async |topic: &str, payload: String| {
        let options = PublishOptions { qos: QoS::AtLeastOnce, ..Default::default() };
        let topic = format!("ESP32/ota/d/{topic}");
        timeout(LIMIT, stranger.publish_with_options(&topic, payload, options)).await.unwrap().unwrap();
    };
    says("status", report("d").to_string()).await;
    says("online", "online".into()).await;
    let refused = async |least: u64| {
        let heard = async {
            while bench.get("/fleet").await.json()["refused"].as_u64().unwrap() < least {
                sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        timeout(LIMIT, heard).await.expect("what is refused is counted");
    };
    refused(6).await;
    bench.get("/devices/d").await.problem(404, "not-found");
    // Those that are known go on.
    bench.reports("b", &key).await.is(200);
    let fleet = bench.get("/fleet").await.json();
    assert_eq!((&fleet["total"], &fleet["most"]), (&json!(3), &json!(3)));
    let cookie = bench.log_in(&bench.admin).await;
    let page = bench.page(&cookie, "/").await.is(200).text;
    assert!(page.contains("The server has 3 devices, as many as it takes"), "{page}");

    // One that is retired makes room.
    bench.post("/devices/c/retire", json!({})).await.is(200);
    bench.claim("d", &key).await.is(201);
    bench.claim("e", &key).await.problem(409, "no-room");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_key_lets_so_many_devices_in() {
    let bench = Bench::start_with(|config| {
        config.device_limits = Bounds { per_fleet_key: 3, ..Bounds::default() };
    })
    .await;
    let (usual, small) = (bench.fleet_key(json!({})).await, bench.fleet_key(json!({"max_devices": 1})).await);
    bench.reports("a", &usual).await.is(200);
    bench.claim("b", &usual).await.is(201);
    // A device counts once, however often it comes, and whether it has a password of its own by now.
    bench.reports("a", &usual).await.is(200);
    bench.post("/devices/a/allow-claim", json!({})).await.is(200);
    bench.claim("a", &usual).await.is(201);
    bench.claim("c", &usual).await.is(201);
    let told = bench.claim("d", &usual).await.problem(409, "no-room").json()["detail"].to_string();
    assert!(told.contains("let 3 devices in") && told.contains("line"), "{told}");
    bench.reports("d", &usual).await.problem(409, "no-room");
    // Another key is another bound.
    bench.claim("d", &small).await.is(201);
    bench.claim("e", &small).await.problem(409, "no-room");
    let keys = bench.get("/fleet-keys").await.json();
    let counts: Vec<_> =
        keys["items"].as_array().unwrap().iter().map(|key| key["devices"].as_u64().unwrap()).collect();
    assert!(counts == [3, 1] || counts == [1, 3], "{keys}");
    bench.post("/fleet-keys", json!({"name": "none", "max_devices": 0})).await.problem(422, "invalid");
    let cookie = bench.log_in(&bench.admin).await;
    let page = bench.page(&cookie, "/keys").await.is(200).text;
    assert!(page.contains("3 of 3") && page.contains("1 of 1") && page.contains("full"), "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_key_lets_so_many_new_devices_in_within_an_hour() {
    let now = Arc::new(AtomicU64::new(1_700_000_000_000));
    let clock = Clock::new({
        let now = Arc::clone(&now);
        move || Time(now.load(Ordering::Relaxed))
    });
    let limits = Bounds { per_fleet_key_and_hour: 3, ..Bounds::default() };
    let bench = Bench::start_at(|config| config.device_limits = limits, clock).await;
    let (key, other) = (bench.fleet_key(json!({})).await, bench.fleet_key(json!({})).await);
    bench.reports("a", &key).await.is(200);
    bench.claim("b", &key).await.is(201);
    bench.reports("c", &key).await.is(200);
    bench.reports("d", &key).await.problem(429, "too-many-requests");
    bench.is_full("d", &key).await;
    let told = bench.claim("d", &key).await.problem(429, "too-many-requests").json()["detail"].to_string();
    assert!(told.contains("3 new devices in an hour") && told.contains("line"), "{told}");
    // Those that are known come in, and another key is another bound.
    bench.reports("a", &key).await.is(200);
    bench.claim("d", &other).await.is(201);
    now.fetch_add(20 * 60_000, Ordering::Relaxed);
    bench.reports("e", &key).await.is(200);
    bench.reports("f", &key).await.problem(429, "too-many-requests");
    bench.reports("f", "wrong").await.is(401);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_devices_that_were_registered_count_for_a_fleet_keys_hour() {
    let limits = Bounds { devices: 2, per_fleet_key_and_hour: 3, ..Bounds::default() };
    let bench = Bench::start_with(|config| config.device_limits = limits).await;
    let key = bench.fleet_key(json!({})).await;
    for device in ["a", "b"] {
        bench.reports(device, &key).await.is(200);
    }
    // There is no room for others, however often and in whichever way they come.
    for number in 0..6 {
        let name = format!("c-{number}");
        bench.reports(&name, &key).await.problem(409, "no-room");
        bench.claim(&name, &key).await.problem(409, "no-room");
        bench.is_full(&name, &key).await;
    }
    bench.post("/devices/a/retire", json!({})).await.is(200);
    bench.reports("c", &key).await.is(200);
}

/// Keeps the one thread that writes busy until the sender is dropped.
async fn busy(bench: &Bench) -> std::sync::mpsc::Sender<()> {
    let (sender, receiver) = std::sync::mpsc::channel::<()>();
    let (began, mut begins) = tokio::sync::mpsc::unbounded_channel();
    let app = bench.server.app().clone();
    tokio::spawn(async move {
        let waiting = app.db.write(move |_| {
            let _ = began.send(());
            let _ = receiver.recv();
            Ok::<_, DbError>(())
        });
        waiting.await
    });
    begins.recv().await.unwrap();
    sender
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registration_counts_for_the_hour_also_if_nobody_waits_for_it() {
    let limits = Bounds { per_fleet_key_and_hour: 2, ..Bounds::default() };
    let bench = Bench::start_with(|config| config.device_limits = limits).await;
    let text = bench.fleet_key(json!({})).await;
    let key: FleetKey =
        serde_json::from_value(bench.get("/fleet-keys").await.json()["items"][0].clone()).unwrap();
    let app = bench.server.app().clone();
    let (held, from) = (busy(&bench).await, IpAddr::from([127, 0, 0, 1]));
    let coming = |device: &'static str| {
        let (app, text) = (app.clone(), text.clone());
        tokio::spawn(async move { verify(&app, DeviceId::from(device), text, None, from).await.map(drop) })
    };
    for device in ["a", "b"] {
        let mut under_way = coming(device);
        // It is counted as soon as no other finds room.
        let wanted = if device == "a" { 2 } else { 1 };
        let is_counted = || {
            let probes: Vec<_> = (0..wanted).map(|_| app.registry.count(&key, app.clock.now())).collect();
            probes.iter().any(Result::is_err)
        };
        while !is_counted() {
            if under_way.is_finished() {
                // A look was in its way.
                under_way = coming(device);
            }
            sleep(std::time::Duration::from_millis(5)).await;
        }
        under_way.abort();
        assert!(under_way.await.unwrap_err().is_cancelled());
    }
    drop(held);
    for device in ["a", "b"] {
        let registered = async {
            while bench.get(&format!("/devices/{device}")).await.status != 200 {
                sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        timeout(LIMIT, registered).await.unwrap();
    }
    bench.reports("c", &text).await.problem(429, "too-many-requests");
    bench.claim("c", &text).await.problem(429, "too-many-requests");
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_count_for_the_fleet_key_they_came_with_until_they_retire() {
    let bench = Bench::start().await;
    let (key, other) = (bench.fleet_key(json!({})).await, bench.fleet_key(json!({})).await);
    let id = |key: &str| key.split('_').nth(1).unwrap().to_owned();
    let app = bench.server.app();
    let counted = async |device: &str, password: &str| {
        let (who, from) = (DeviceId::from(device), IpAddr::from([127, 0, 0, 1]));
        let login = verify(app, who, password.to_owned(), Some(device), from).await.unwrap();
        login.fleet_key.map(|key| (key.id, key.devices))
    };
    let password = |answer: Answer| answer.json()["password"].as_str().unwrap().to_owned();
    assert_eq!(counted("a", &key).await, Some((id(&key), 1)), "it counts itself");
    let claimed = password(bench.claim("b", &key).await.is(201));
    assert_eq!(counted("c", &key).await, Some((id(&key), 3)));
    assert_eq!(counted("b", &claimed).await, Some((id(&key), 3)), "with a password of its own");
    assert_eq!(counted("x", &other).await, Some((id(&other), 1)));
    bench.post("/devices/c/retire", json!({})).await.is(200);
    assert_eq!(counted("a", &key).await, Some((id(&key), 2)));
    bench.post("/devices/c/unretire", json!({})).await.is(200);
    bench.post("/devices/b/allow-claim", json!({})).await.is(200);
    let again = password(bench.claim("b", &other).await.is(201));
    assert_eq!(counted("b", &again).await, Some((id(&key), 3)), "it came with the first");
    let added = password(bench.post("/devices", json!({"id": "own"})).await.is(201));
    assert_eq!(counted("own", &added).await, None);
    bench.ask(Some(&bench.admin), Method::DELETE, &format!("/fleet-keys/{}", id(&key)), None).await.is(204);
    assert_eq!(counted("b", &again).await, Some((id(&key), 3)), "also when the key has ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_without_room_cost_no_write_and_are_counted() {
    for limits in
        [Bounds { devices: 1, ..Bounds::default() }, Bounds { per_fleet_key: 1, ..Bounds::default() }]
    {
        let bench = Bench::start_with(|config| config.device_limits = limits).await;
        let (key, other) = (bench.fleet_key(json!({})).await, bench.fleet_key(json!({})).await);
        bench.reports("a", &key).await.is(200);
        let held = busy(&bench).await;
        let answers = async {
            bench.is_full("b", &key).await;
            for number in 0..10 {
                bench.claim(&format!("c-{number}"), &key).await.problem(409, "no-room");
                bench.reports(&format!("r-{number}"), &key).await.problem(409, "no-room");
            }
            for number in 0..10 {
                let refused =
                    bench.reports(&format!("s-{number}"), &key).await.problem(429, "too-many-requests");
                assert!(refused.headers.contains_key(header::RETRY_AFTER));
                assert!(refused.text.contains("found no room with this fleet key"), "{}", refused.text);
            }
            bench.claim("d", &key).await.problem(429, "too-many-requests");
            // Neither wrong passwords nor another key are counted with it.
            bench.reports("b", "wrong").await.is(401);
            if limits.devices == 1 {
                bench.reports("b", &other).await.problem(409, "no-room");
            }
        };
        timeout(LIMIT, answers).await.expect("nobody waits for the one that writes");
        drop(held);
        bench.reports("a", &key).await.is(200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_claimed_so_often_and_others_are_not_delayed() {
    let now = Arc::new(AtomicU64::new(1_700_000_000_000));
    let clock = Clock::new({
        let now = Arc::clone(&now);
        move || Time(now.load(Ordering::Relaxed))
    });
    let bench = Bench::start_at(|_| {}, clock).await;
    let (key, other) = (bench.fleet_key(json!({})).await, bench.fleet_key(json!({})).await);
    bench.claim("lamp", &key).await.is(201);
    for _ in 1..10 {
        bench.claim("lamp", &key).await.problem(409, "conflict");
    }
    let refused = bench.claim("lamp", &key).await.problem(429, "too-many-requests");
    assert_eq!(refused.headers[header::RETRY_AFTER], "360");
    // Neither another device, nor another key, nor who has no key at all is counted with it.
    bench.claim("hall", &key).await.is(201);
    bench.claim("lamp", &other).await.problem(409, "conflict");
    let (id, _) = key.trim_start_matches("fleet_").split_once('_').unwrap();
    let guess = format!("fleet_{id}_{}", "0".repeat(64));
    for _ in 0..15 {
        bench.claim("attic", &guess).await.problem(401, "unauthorized");
    }
    bench.claim("attic", &key).await.is(201);
    now.fetch_add(6 * 60_000, Ordering::Relaxed);
    bench.claim("lamp", &key).await.problem(409, "conflict");
    bench.claim("lamp", &key).await.problem(429, "too-many-requests");
}
