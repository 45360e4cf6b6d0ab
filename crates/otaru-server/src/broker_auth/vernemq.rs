//! Questions of VerneMQ's webhooks, in its JSON: `auth_on_register`, `auth_on_publish`, `auth_on_subscribe`, and the same for MQTT 5, with
//! `_m5` at their ends. No answer may be kept by it: there is no `Cache-Control`.

use std::sync::Arc;

use axum::extract::{Extension, State};
use axum::routing::post;
use axum::{Json, Router};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use super::decide::{Attempt, Decision, Decisions, Proof, address};
use super::json::read;
use crate::http::Peer;
use crate::problem::Problem;

/// Returns the routes.
pub(super) fn router() -> Router<Arc<Decisions>> {
    let mut router = Router::new();
    for version in ["", "_m5"] {
        router = router
            .route(&format!("/auth_on_register{version}"), post(register))
            .route(&format!("/auth_on_publish{version}"), post(publish))
            .route(&format!("/auth_on_subscribe{version}"), post(subscribe));
    }
    router
}

type Answer = Result<Json<Value>, Problem>;

fn answer(decision: Decision) -> Json<Value> {
    Json(match decision {
        Ok(()) => json!({"result": "ok"}),
        Err(_) => json!({"result": {"error": "not_allowed"}}),
    })
}

#[derive(Deserialize)]
struct Register {
    client_id: String,
    username: Option<String>,
    password: Option<String>,
    peer_addr: Option<String>,
}

async fn register(
    State(decisions): State<Arc<Decisions>>,
    Extension(broker): Extension<Peer>,
    body: Bytes,
) -> Answer {
    let Register { client_id: client, username, password, peer_addr } = read(&body)?;
    let (proof, from) = (password.map(Proof::Password), peer_addr.as_deref().and_then(address));
    let attempt = Attempt { client, username, proof, address: from, broker: broker.0 };
    let decided = decisions.connect(&attempt).await;
    decisions.metrics().broker_asked("connect", decided.as_ref().ok());
    decided.map(answer)
}

#[derive(Deserialize)]
struct Publish {
    client_id: String,
    username: Option<String>,
    topic: String,
}

async fn publish(State(decisions): State<Arc<Decisions>>, body: Bytes) -> Answer {
    let Publish { client_id, username, topic } = read(&body)?;
    let decided = decisions.publish(&client_id, username.as_deref(), &topic).await;
    decisions.metrics().broker_asked("publish", decided.as_ref().ok());
    decided.map(answer)
}

#[derive(Deserialize)]
struct Subscribe {
    client_id: String,
    username: Option<String>,
    topics: Vec<Filter>,
}

#[derive(Deserialize)]
struct Filter {
    topic: String,
}

/// One filter that may not be refuses all of the packet.
async fn subscribe(State(decisions): State<Arc<Decisions>>, body: Bytes) -> Answer {
    let Subscribe { client_id, username, topics } = read(&body)?;
    let mut decided = Ok(Ok(()));
    for Filter { topic } in topics {
        decided = decisions.subscribe(&client_id, username.as_deref(), &topic).await;
        if !matches!(decided, Ok(Ok(()))) {
            break;
        }
    }
    decisions.metrics().broker_asked("subscribe", decided.as_ref().ok());
    decided.map(answer)
}
