//! Devices that say too much, too fast: others are heard in time, and nothing great is kept.

use std::time::Duration;

use mqtt5::{ConnectOptions, MqttClient, PublishOptions, PublishResult, QoS};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

use crate::bench::{Bench, LIMIT};

const IMAGE: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn report(device: &str, state: &str, version: &str) -> Value {
    json!({
        "device": device, "chip": "esp32c3", "state": state, "project": "lamp", "version": version, "image": IMAGE,
        "slot": 0, "confirmed": true, "boot": "power_on", "uptime": 1,
    })
}

async fn device(bench: &Bench, id: &str) -> MqttClient {
    let client = MqttClient::with_options(ConnectOptions::new(id).with_automatic_reconnect(false));
    timeout(LIMIT, client.connect(&bench.server.mqtt_url().to_string())).await.unwrap().unwrap();
    client
}

async fn says(client: &MqttClient, id: &str, qos: QoS, report: &str) {
    let options = PublishOptions { qos, retain: true, ..Default::default() };
    let topic = format!("ESP32/ota/{id}/status");
    let said = timeout(LIMIT, client.publish_with_options(&topic, report, options)).await.unwrap();
    assert!(matches!(said, Ok(PublishResult::Sent(_))), "{said:?}");
}

/// Waits until the server knows a device like this.
async fn knows(bench: &Bench, id: &str, like: impl Fn(&Value) -> bool) -> Value {
    let start = Instant::now();
    loop {
        let answer = bench.get(&format!("/devices/{id}")).await;
        if answer.status == 200 && like(&answer.json()) {
            return answer.json();
        }
        assert!(start.elapsed() < 2 * LIMIT, "{answer:?}");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_reports_without_pause_delays_nobody_and_loses_no_verdict() {
    let bench = Bench::start_with(|config| config.dev = true).await;
    let (noisy, calm) = (device(&bench, "noisy").await, device(&bench, "calm").await);
    let metrics = &bench.server.app().metrics;
    let start = Instant::now();
    let noise = async {
        for number in 0..4_000_u32 {
            let state = if number % 2 == 0 { "downloading" } else { "verifying" };
            says(&noisy, "noisy", QoS::AtMostOnce, &report("noisy", state, &number.to_string()).to_string())
                .await;
        }
        says(&noisy, "noisy", QoS::AtLeastOnce, &report("noisy", "failed", "last").to_string()).await;
        for number in 0..500_u32 {
            let report = report("noisy", "idle", &format!("after {number}"));
            says(&noisy, "noisy", QoS::AtMostOnce, &report.to_string()).await;
        }
    };
    let quiet = async {
        for number in 0..10_u32 {
            let version = format!("1.0.{number}");
            says(&calm, "calm", QoS::AtLeastOnce, &report("calm", "confirmed", &version).to_string()).await;
            knows(&bench, "calm", |device| device["version"] == version).await;
        }
    };
    tokio::join!(noise, quiet);
    knows(&bench, "noisy", |device| device["version"] == "after 499").await;
    let history = bench.get("/devices/noisy/history").await.is(200).json();
    let verdicts = history["items"].as_array().unwrap().iter();
    let verdicts = verdicts.filter(|event| event["detail"]["version"] == "last").count();
    assert_eq!(verdicts, 1, "{history}");
    // At its pace: a burst, and four a second.
    let most = 2 * 32 + 10 + 8 * (start.elapsed().as_secs() + 1);
    assert!(metrics.received.get() >= 4_000, "{}", metrics.received.get());
    assert!(metrics.reports.get() <= most, "{} of {most}", metrics.reports.get());
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_that_are_too_long_are_kept_nowhere() {
    let bench = Bench::start_with(|config| config.dev = true).await;
    let client = device(&bench, "lamp").await;
    says(&client, "lamp", QoS::AtLeastOnce, &report("lamp", "idle", &"9".repeat(15_000)).to_string()).await;
    // One that is short enough, with a text that is not.
    let mut long = report("lamp", "failed", &"8".repeat(500));
    long["error"] = json!({"code": "timeout", "detail": format!("\u{1b}[2J{}", "x".repeat(1_000))});
    says(&client, "lamp", QoS::AtLeastOnce, &long.to_string()).await;
    let known = knows(&bench, "lamp", |device| device["state"] == "failed").await;
    assert!(known["version"].as_str().unwrap().len() <= 64, "{known}");
    for path in ["/devices/lamp", "/devices", "/devices/lamp/history"] {
        let text = bench.get(path).await.is(200).text;
        assert!(
            text.len() < 8_192 && !text.contains("999999") && !text.contains("\\u001b"),
            "{path}: {text}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_holds_for_reports_over_http() {
    let bench = Bench::start().await;
    bench.post("/devices", json!({"id": "lamp"})).await.is(201);
    bench
        .post("/devices/lamp/status", report("lamp", "idle", &"9".repeat(15_000)))
        .await
        .problem(413, "too-large");
    bench.post("/devices/lamp/status", report("lamp", "idle", &"9".repeat(500))).await.is(200);
    let known = bench.get("/devices/lamp").await.json();
    assert!(known["version"].as_str().unwrap().len() <= 64, "{known}");
    // A device that does not stop is told to.
    let mut refused = None;
    for number in 0..200 {
        let answer = bench.post("/devices/lamp/status", report("lamp", "idle", &number.to_string())).await;
        if answer.status == 429 {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("200 at once are too many").problem(429, "too-many-requests");
    assert!(refused.headers.contains_key("retry-after"));
    bench.post("/devices", json!({"id": "hall"})).await.is(201);
    bench.post("/devices/hall/status", report("hall", "idle", "1")).await.is(200);
}
