//! Questions of mosquitto-go-auth's HTTP backend, in its JSON: `/user` and `/acl`.

use std::sync::Arc;

use axum::extract::{Extension, State};
use axum::routing::post;
use axum::{Json, Router};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::decide::{Attempt, Decision, Decisions, Proof};
use super::json::read;
use crate::http::Peer;
use crate::problem::Problem;

/// Access that is asked for: to be sent a message, to publish one, both, to subscribe.
const READ: u8 = 1;
const WRITE: u8 = 2;
const BOTH: u8 = READ | WRITE;
const SUBSCRIBE: u8 = 4;

/// Returns the routes.
pub(super) fn router() -> Router<Arc<Decisions>> {
    Router::new().route("/user", post(user)).route("/acl", post(acl))
}

#[derive(Serialize)]
struct Answer {
    ok: bool,
    error: String,
}

fn answer(decision: Decision) -> Json<Answer> {
    let (ok, error) = (decision.is_ok(), decision.err().unwrap_or_default());
    Json(Answer { ok, error })
}

#[derive(Deserialize)]
struct User {
    username: String,
    password: String,
    clientid: String,
}

async fn user(
    State(decisions): State<Arc<Decisions>>,
    Extension(broker): Extension<Peer>,
    body: Bytes,
) -> Result<Json<Answer>, Problem> {
    let User { username, password, clientid: client } = read(&body)?;
    let (username, proof) = (Some(username), Some(Proof::Password(password)));
    // It tells no address of who logs in.
    let attempt = Attempt { client, username, proof, address: None, broker: broker.0 };
    let decided = decisions.connect(&attempt).await;
    decisions.metrics().broker_asked("connect", decided.as_ref().ok());
    decided.map(answer)
}

#[derive(Deserialize)]
struct Acl {
    username: String,
    clientid: String,
    topic: String,
    acc: u8,
}

async fn acl(State(decisions): State<Arc<Decisions>>, body: Bytes) -> Result<Json<Answer>, Problem> {
    let Acl { username, clientid, topic, acc } = read(&body)?;
    let (client, username) = (clientid.as_str(), Some(username.as_str()));
    let (question, decided) = match acc {
        WRITE => ("publish", decisions.publish(client, username, &topic).await),
        // Whoever may not subscribe to a topic is sent nothing of it.
        READ | SUBSCRIBE => ("subscribe", decisions.subscribe(client, username, &topic).await),
        BOTH => match decisions.publish(client, username, &topic).await {
            Ok(Ok(())) => ("subscribe", decisions.subscribe(client, username, &topic).await),
            other => ("publish", other),
        },
        _ => return Err(Problem::invalid("`acc` is 1, 2, 3 or 4")),
    };
    decisions.metrics().broker_asked(question, decided.as_ref().ok());
    decided.map(answer)
}
