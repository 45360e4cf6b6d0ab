//! Questions in the words of mosquitto-go-auth and VerneMQ.

use serde_json::{Value, json};

use super::{Asked, SECRET};

impl Asked {
    /// Asks in a broker's own words, with the secret in the query.
    async fn in_words_of(&self, broker: &str, question: &str, body: Value) -> Value {
        let path = format!("/v1/broker/{broker}/{question}?secret={SECRET}");
        let (status, text) = self.send(&path, "", &body.to_string()).await;
        assert_eq!(status, 200, "{text}");
        serde_json::from_str(&text).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mosquitto_go_auth_is_answered_in_its_words() {
    let asked = Asked::start().await;
    let lamp = asked.device("lamp").await;
    for (password, ok) in [("wrong", false), (lamp.as_str(), true)] {
        let user = json!({"username": "lamp", "password": password, "clientid": "lamp"});
        let answer = asked.in_words_of("mosquitto", "user", user).await;
        assert_eq!(answer["ok"], ok, "{answer}");
        assert_eq!(answer["error"] == "", ok, "{answer}");
    }
    for (topic, acc, ok) in [
        ("ESP32/ota/lamp/status", 2, true),
        ("ESP32/ota/hall/status", 2, false),
        ("ESP32/ota/lamp/update", 4, true),
        ("ESP32/ota/lamp/update", 1, true),
        ("ESP32/ota/lamp/update", 3, false),
        ("ESP32/ota/lamp/status", 3, true),
        ("ESP32/ota/hall/update", 1, false),
        ("ESP32/ota/+/update", 4, false),
    ] {
        let acl = json!({"username": "lamp", "clientid": "lamp", "topic": topic, "acc": acc});
        assert_eq!(asked.in_words_of("mosquitto", "acl", acl).await["ok"], ok, "{topic} {acc}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn vernemq_is_answered_in_its_words() {
    let asked = Asked::start().await;
    let lamp = asked.device("lamp").await;
    let register = |password: &str| {
        json!({"peer_addr": "192.0.2.7", "peer_port": 8888, "mountpoint": "", "client_id": "lamp",
               "username": "lamp", "password": password, "clean_session": true})
    };
    let refused = json!({"result": {"error": "not_allowed"}});
    assert_eq!(asked.in_words_of("vernemq", "auth_on_register", register("wrong")).await, refused);
    assert_eq!(
        asked.in_words_of("vernemq", "auth_on_register_m5", register(&lamp)).await,
        json!({"result": "ok"})
    );
    for (topic, ok) in [("ESP32/ota/lamp/status", true), ("ESP32/ota/hall/status", false)] {
        let publish = json!({"client_id": "lamp", "username": "lamp", "mountpoint": "", "topic": topic, "qos": 1,
                             "payload": "e30=", "retain": true});
        let answer = asked.in_words_of("vernemq", "auth_on_publish", publish).await;
        assert_eq!(answer["result"] == "ok", ok, "{topic}");
    }
    for (filters, ok) in [
        (vec!["ESP32/ota/lamp/update", "ESP32/ota/update"], true),
        (vec!["ESP32/ota/lamp/update", "ESP32/ota/+/update"], false),
    ] {
        let topics: Vec<Value> = filters.iter().map(|topic| json!({"topic": topic, "qos": 1})).collect();
        let subscribe = json!({"client_id": "lamp", "username": "lamp", "mountpoint": "", "topics": topics});
        let answer = asked.in_words_of("vernemq", "auth_on_subscribe", subscribe).await;
        assert_eq!(answer["result"] == "ok", ok, "{filters:?}");
    }
}
