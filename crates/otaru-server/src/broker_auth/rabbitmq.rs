//! Questions of RabbitMQ's plug-in `rabbitmq_auth_backend_http`, in forms, for connections of MQTT: each has a client id, and nothing else is
//! let in.
//!
//! A topic is a routing key there, with `.` in place of `/` and `*` in place of `+`. A `.` of a name cannot be told from a level then, so
//! names are compared as they look in a key.

use std::borrow::Cow;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::routing::post;
use bytes::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::decide::{Attempt, Decision, Decisions, Proof, allowed};
use crate::http::Peer;
use crate::mqtt::access::{self, Identity};
use crate::problem::Problem;

/// Virtual host, where none is named.
pub(super) const USUAL_HOST: &str = "/";
/// Exchange through which all of MQTT goes, unless the plug-in is told otherwise.
const EXCHANGE: &str = "amq.topic";

/// Virtual host that devices may be in.
#[derive(Debug, Clone)]
struct Host(Arc<str>);

/// Returns the routes, for devices in this virtual host.
pub(super) fn router(host: String) -> Router<Arc<Decisions>> {
    Router::new()
        .route("/user", post(user))
        .route("/vhost", post(vhost))
        .route("/resource", post(resource))
        .route("/topic", post(topic))
        .layer(Extension(Host(host.into())))
}

/// The word, or a problem that RabbitMQ takes for a refusal.
type Answer = Result<&'static str, Problem>;

fn answer(decision: &Decision) -> &'static str {
    match decision {
        Ok(()) => "allow",
        // No reason: the plug-in knows two words.
        Err(_) => "deny",
    }
}

fn refuse(why: &str) -> Decision {
    Err(why.to_owned())
}

#[derive(Deserialize)]
struct User {
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    vhost: String,
    client_id: Option<String>,
}

async fn user(
    State(decisions): State<Arc<Decisions>>,
    Extension(broker): Extension<Peer>,
    Extension(host): Extension<Host>,
    body: Bytes,
) -> Answer {
    let User { username, password, vhost, client_id } = read(&body)?;
    let decided = match client_id {
        Some(client) if *vhost == *host.0 => {
            let proof = Some(Proof::Password(password)).filter(|_| !client.is_empty());
            let username = Some(username);
            // The plug-in tells no address of who logs in.
            decisions.connect(&Attempt { client, username, proof, address: None, broker: broker.0 }).await
        }
        // AMQP, or RabbitMQ's own pages: those have users of their own.
        _ => Ok(refuse("this is no connection of MQTT, or in another virtual host")),
    };
    decisions.metrics().broker_asked("connect", decided.as_ref().ok());
    decided.map(|decision| answer(&decision))
}

#[derive(Deserialize)]
struct Vhost {
    username: String,
    vhost: String,
    #[serde(default)]
    client_id: String,
}

async fn vhost(
    State(decisions): State<Arc<Decisions>>,
    Extension(host): Extension<Host>,
    body: Bytes,
) -> Answer {
    let Vhost { username, vhost, client_id } = read(&body)?;
    let owner = decisions.owner(&client_id, Some(&username)).await?;
    Ok(answer(&allowed(owner, |_| *vhost == *host.0)))
}

#[derive(Deserialize)]
struct Resource {
    username: String,
    vhost: String,
    resource: String,
    name: String,
    permission: String,
    #[serde(default)]
    client_id: String,
}

async fn resource(
    State(decisions): State<Arc<Decisions>>,
    Extension(host): Extension<Host>,
    body: Bytes,
) -> Answer {
    let Resource { username, vhost, resource, name, permission, client_id } = read(&body)?;
    let owner = decisions.owner(&client_id, Some(&username)).await?;
    let may = |_: &Identity| *vhost == *host.0 && is_own(&resource, &name, &permission, &client_id);
    Ok(answer(&allowed(owner, may)))
}

/// Whether this is a queue of this client id's, or the exchange as it is.
fn is_own(resource: &str, name: &str, permission: &str, client: &str) -> bool {
    match resource {
        "queue" => {
            let kinds = ["mqtt-subscription-", "mqtt-will-"].map(|kind| name.strip_prefix(kind));
            let [subscription, will] = kinds.map(|name| name.and_then(|name| name.strip_prefix(client)));
            matches!(subscription, Some("qos0" | "qos1")) || will == Some("")
        }
        "exchange" => name == EXCHANGE && matches!(permission, "read" | "write"),
        _ => false,
    }
}

#[derive(Deserialize)]
struct Topic {
    username: String,
    vhost: String,
    name: String,
    permission: String,
    routing_key: String,
    #[serde(default, rename = "variable_map.client_id")]
    client_id: String,
}

async fn topic(
    State(decisions): State<Arc<Decisions>>,
    Extension(host): Extension<Host>,
    body: Bytes,
) -> Answer {
    let Topic { username, vhost, name, permission, routing_key, client_id } = read(&body)?;
    let owner = decisions.owner(&client_id, Some(&username)).await;
    let (topic, base) = (of_key(&routing_key), in_levels(decisions.base()));
    let decided = owner.map(|owner| {
        allowed(owner, |identity| {
            let identity = as_in_key(identity);
            *vhost == *host.0
                && name == EXCHANGE
                && match permission.as_str() {
                    "write" => access::may_publish(&identity, &base, &topic),
                    "read" => access::may_subscribe(&identity, &base, &topic),
                    _ => false,
                }
        })
    });
    let question = if permission == "write" { "publish" } else { "subscribe" };
    decisions.metrics().broker_asked(question, decided.as_ref().ok());
    decided.map(|decision| answer(&decision))
}

/// Returns the topic or filter of a routing key.
fn of_key(key: &str) -> String {
    key.replace('.', "/").replace('*', "+")
}

/// Returns a name as its levels are in a key.
fn in_levels(name: &str) -> String {
    name.replace('.', "/")
}

/// Returns an identity as its name is in a key.
fn as_in_key(identity: &Identity) -> Cow<'_, Identity> {
    match identity {
        Identity::Device(name) => Cow::Owned(Identity::Device(in_levels(name))),
        other => Cow::Borrowed(other),
    }
}

/// Reads a form. The library's words could have its password in them.
fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    serde_urlencoded::from_bytes(body).map_err(|_| {
        let detail = "this is no question of rabbitmq_auth_backend_http; is auth_http.http_method = post?";
        Problem::new(StatusCode::BAD_REQUEST, "bad-form", detail)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn may(device: &str, permission: &str, key: &str) -> bool {
        let identity = Identity::Device(device.to_owned());
        let (identity, base, topic) = (as_in_key(&identity), in_levels("ESP32/ota"), of_key(key));
        match permission {
            "write" => access::may_publish(&identity, &base, &topic),
            _ => access::may_subscribe(&identity, &base, &topic),
        }
    }

    #[test]
    fn a_routing_key_is_held_against_the_rules_of_topics() {
        for (device, permission, key, wanted) in [
            ("lamp", "write", "ESP32.ota.lamp.status", true),
            ("lamp", "write", "ESP32.ota.hall.status", false),
            ("lamp", "write", "ESP32.ota.lamp.update", false),
            ("lamp", "read", "ESP32.ota.lamp.update", true),
            ("lamp", "read", "ESP32.ota.*.update", false),
            ("lamp", "read", "ESP32.ota.#", false),
            ("lamp.2", "write", "ESP32.ota.lamp.2.status", true),
            ("lamp", "write", "ESP32.ota.lamp.2.status", false),
            // Names that are wildcards of AMQP.
            ("*", "read", "ESP32.ota.*.update", false),
            ("*.2", "read", "ESP32.ota.*.2.update", false),
        ] {
            assert_eq!(may(device, permission, key), wanted, "{device} {permission} {key}");
        }
    }

    #[test]
    fn queues_are_those_of_the_client_id() {
        for (resource, name, permission, wanted) in [
            ("queue", "mqtt-subscription-lampqos1", "configure", true),
            ("queue", "mqtt-subscription-lampqos0", "read", true),
            ("queue", "mqtt-will-lamp", "write", true),
            ("queue", "mqtt-subscription-hallqos1", "read", false),
            ("queue", "mqtt-subscription-lamp2qos1", "read", false),
            ("queue", "mqtt-subscription-lamp", "read", false),
            ("queue", "orders", "read", false),
            ("exchange", "amq.topic", "write", true),
            ("exchange", "amq.topic", "configure", false),
            ("exchange", "amq.direct", "write", false),
            ("topic", "amq.topic", "write", false),
        ] {
            assert_eq!(is_own(resource, name, permission, "lamp"), wanted, "{resource} {name} {permission}");
        }
    }
}
