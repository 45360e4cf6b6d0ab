//! Questions of `rabbitmq_auth_backend_http`, as its version 3.10 sends them for MQTT.

use super::{Asked, SECRET, SERVER};

impl Asked {
    /// Asks as RabbitMQ does, with the secret in the query; returns the word.
    async fn rabbitmq(&self, path: &str, form: &[(&str, &str)]) -> String {
        let body = serde_urlencoded_of(form);
        let more = "Content-Type: application/x-www-form-urlencoded\r\n";
        let path = format!("/v1/broker/rabbitmq/{path}?secret={SECRET}");
        let (status, text) = self.send(&path, more, &body).await;
        assert_eq!(status, 200, "{text}");
        text
    }
}

fn serde_urlencoded_of(form: &[(&str, &str)]) -> String {
    let plus =
        |text: &str| text.replace('%', "%25").replace('/', "%2F").replace('#', "%23").replace('*', "%2A");
    let pairs: Vec<String> = form.iter().map(|(name, value)| format!("{name}={}", plus(value))).collect();
    pairs.join("&")
}

fn user<'a>(name: &'a str, password: &'a str, vhost: &'a str, client: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![("username", name), ("password", password), ("vhost", vhost), ("client_id", client)]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_logs_in_and_reaches_its_own_queue_and_topics() {
    let asked = Asked::start().await;
    let lamp = asked.device("lamp").await;
    assert_eq!(asked.rabbitmq("user", &user("lamp", "wrong", "/", "lamp")).await, "deny");
    assert_eq!(asked.rabbitmq("user", &user("lamp", &lamp, "/", "lamp")).await, "allow");
    let host =
        |vhost| vec![("username", "lamp"), ("vhost", vhost), ("ip", "127.0.0.1"), ("client_id", "lamp")];
    assert_eq!(asked.rabbitmq("vhost", &host("/")).await, "allow");
    assert_eq!(asked.rabbitmq("vhost", &host("shop")).await, "deny");
    for (resource, name, permission, answer) in [
        ("queue", "mqtt-subscription-lampqos1", "configure", "allow"),
        ("queue", "mqtt-subscription-hallqos1", "read", "deny"),
        ("exchange", "amq.topic", "write", "allow"),
        ("exchange", "amq.topic", "configure", "deny"),
        ("exchange", "orders", "write", "deny"),
    ] {
        let form = [
            ("username", "lamp"),
            ("vhost", "/"),
            ("resource", resource),
            ("name", name),
            ("permission", permission),
            ("client_id", "lamp"),
        ];
        assert_eq!(asked.rabbitmq("resource", &form).await, answer, "{resource} {name} {permission}");
    }
    for (permission, key, answer) in [
        ("write", "ESP32.ota.lamp.status", "allow"),
        ("write", "ESP32.ota.hall.status", "deny"),
        ("read", "ESP32.ota.lamp.update", "allow"),
        ("read", "ESP32.ota.*.update", "deny"),
        ("read", "#", "deny"),
    ] {
        let form = [
            ("username", "lamp"),
            ("vhost", "/"),
            ("resource", "topic"),
            ("name", "amq.topic"),
            ("permission", permission),
            ("routing_key", key),
            ("variable_map.client_id", "lamp"),
            ("variable_map.username", "lamp"),
            ("variable_map.vhost", "/"),
        ];
        assert_eq!(asked.rabbitmq("topic", &form).await, answer, "{permission} {key}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_speaks_something_else_than_mqtt_is_not_let_in() {
    let asked = Asked::start().await;
    let lamp = asked.device("lamp").await;
    // AMQP and RabbitMQ's own pages tell no client id.
    for password in [lamp.as_str(), asked.bench.admin.as_str()] {
        let form = [("username", "lamp"), ("password", password), ("vhost", "/")];
        assert_eq!(asked.rabbitmq("user", &form).await, "deny");
        assert_eq!(asked.rabbitmq("user", &user("lamp", password, "/", "")).await, "deny");
    }
    assert_eq!(asked.rabbitmq("user", &user("lamp", &lamp, "shop", "lamp")).await, "deny", "another host");
    assert_eq!(asked.rabbitmq("user", &user(SERVER.0, SERVER.1, "/", "server")).await, "allow");
    let (status, text) =
        asked.send(&format!("/v1/broker/rabbitmq/user?secret={SECRET}"), "", "name=lamp").await;
    assert!(status == 400 && text.contains("http_method = post"), "{text}");
}
