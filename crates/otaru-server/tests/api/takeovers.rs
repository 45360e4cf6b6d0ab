//! Two boards of one name: the broker sees them push each other out, and the server says so.

use mqtt5::{ConnectOptions, MqttClient};
use serde_json::Value;
use tokio::time::timeout;

use crate::bench::{Bench, LIMIT};

async fn connect(bench: &Bench, id: &str) -> MqttClient {
    let client = MqttClient::with_options(ConnectOptions::new(id).with_automatic_reconnect(false));
    timeout(LIMIT, client.connect(&bench.server.mqtt_url().to_string())).await.unwrap().unwrap();
    client
}

async fn contested(bench: &Bench, id: &str) -> Value {
    bench.get(&format!("/devices/{id}")).await.is(200).json()["contested"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_boards_with_one_name_are_told() {
    let bench = Bench::start_with(|config| config.dev = true).await;
    bench
        .devices(vec![("lamp".into(), "1.0.0", "idle", vec![]), ("hall".into(), "1.0.0", "idle", vec![])])
        .await;
    let mut boards = Vec::new();
    for _ in 0..5 {
        boards.push(connect(&bench, "lamp").await);
        boards.push(connect(&bench, "hall").await);
    }
    assert_eq!(contested(&bench, "lamp").await, Value::Null, "a board may restart a few times");
    for _ in 0..6 {
        boards.push(connect(&bench, "lamp").await);
    }
    let told = contested(&bench, "lamp").await;
    assert!(told["takeovers"].as_u64().unwrap() > 4, "{told}");
    assert_eq!(told["addresses"], serde_json::json!(["127.0.0.1"]));
    assert!(told["detail"].as_str().unwrap().contains("two boards"), "{told}");
    assert_eq!(contested(&bench, "hall").await, Value::Null);

    let cookie = bench.log_in(&bench.admin).await;
    let page = bench.page(&cookie, "/devices/lamp").await.is(200).text;
    assert!(page.contains("Within 10 min its connection was taken over"), "{page}");
    let page = bench.page(&cookie, "/devices/hall").await.is(200).text;
    assert!(!page.contains("taken over"), "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_before_coming_back_takes_nothing_over() {
    let bench = Bench::start_with(|config| config.dev = true).await;
    bench.devices(vec![("lamp".into(), "1.0.0", "idle", vec![])]).await;
    for _ in 0..12 {
        connect(&bench, "lamp").await.disconnect().await.unwrap();
        let gone = async {
            while bench.server.app().connections.has("lamp") {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        timeout(LIMIT, gone).await.unwrap();
    }
    assert_eq!(contested(&bench, "lamp").await, Value::Null);
}
