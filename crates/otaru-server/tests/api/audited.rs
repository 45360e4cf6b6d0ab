//! Audit actions of the API's operations: each is done, and the log read. The operations are read from the API's own description, so that none can be forgotten.

use std::collections::BTreeMap;
use std::time::Duration;

use otaru_format::digest::Digest;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use crate::again::{lamp, with_key};
use crate::bench::{Bench, LIMIT};
use crate::moments::furnished;

/// Operations that change something, and the action that each leaves in the audit log, or why it leaves none.
const CHANGING: [(&str, Result<&str, &str>); 28] = [
    ("POST /claim", Ok("device.claim")),
    ("POST /devices", Ok("device.add")),
    ("POST /devices/tags", Ok("device.change")),
    ("PATCH /devices/{id}", Ok("device.change")),
    ("POST /devices/{id}/allow-claim", Ok("device.allow_claim")),
    ("POST /devices/{id}/password", Ok("device.password")),
    ("POST /devices/{id}/retire", Ok("device.retire")),
    ("POST /devices/{id}/status", Err("a device reports: that is in its history")),
    ("POST /devices/{id}/unretire", Ok("device.unretire")),
    ("POST /fleet-keys", Ok("fleet-key.create")),
    ("DELETE /fleet-keys/{id}", Ok("fleet-key.revoke")),
    ("POST /releases", Ok("release.upload")),
    ("PATCH /releases/{id}", Ok("release.change")),
    ("POST /releases/{id}/build", Ok("release.build")),
    ("POST /releases/{id}/unyank", Ok("release.unyank")),
    ("POST /releases/{id}/yank", Ok("release.yank")),
    ("POST /rollouts", Ok("rollout.create")),
    ("POST /rollouts/preview", Err("it changes nothing")),
    ("POST /rollouts/{id}/abort", Ok("rollout.abort")),
    ("POST /rollouts/{id}/advance", Ok("rollout.advance")),
    ("POST /rollouts/{id}/deployments/{device}/retry", Ok("rollout.retry")),
    ("POST /rollouts/{id}/finish", Ok("rollout.finish")),
    ("POST /rollouts/{id}/pause", Ok("rollout.pause")),
    ("POST /rollouts/{id}/resume", Ok("rollout.resume")),
    ("POST /rollouts/{id}/start", Ok("rollout.start")),
    ("POST /rollouts/{id}/widen", Ok("rollout.widen")),
    ("POST /tokens", Ok("token.create")),
    ("DELETE /tokens/{id}", Ok("token.revoke")),
];

/// The log, while operations are done.
struct Log<'b> {
    bench: &'b Bench,
    left: &'b mut BTreeMap<&'static str, &'static str>,
}

impl Log<'_> {
    /// Returns the number of the newest entry, and the actions since another.
    async fn since(&self, before: u64) -> (u64, Vec<String>) {
        let log = self.bench.get("/audit?limit=100").await.is(200).json();
        let entries = log["items"].as_array().unwrap();
        let id = |entry: &Value| entry["id"].as_u64().unwrap();
        let new = entries.iter().filter(|entry| id(entry) > before);
        let actions = new.map(|entry| entry["action"].as_str().unwrap().to_owned()).collect();
        (entries.first().map_or(0, id), actions)
    }

    /// Notes what stands in the log after an operation was done; fails unless its action does.
    async fn notes(&mut self, before: u64, operation: &'static str) {
        let action = self.left.remove(operation).unwrap_or_else(|| panic!("{operation} is done twice"));
        let (_, actions) = self.since(before).await;
        assert!(actions.iter().any(|done| done == action), "{operation} leaves {actions:?}, not {action}");
    }

    /// Does an operation at a path.
    async fn does(&mut self, operation: &'static str, path: &str, body: Value) -> Value {
        let (method, _) = operation.split_once(' ').unwrap();
        let (before, _) = self.since(0).await;
        let body = Some(body).filter(|body| !body.is_null());
        let answer = self.bench.ask(Some(&self.bench.admin), method.parse().unwrap(), path, body).await;
        assert!(answer.status.is_success(), "{operation}: {answer:?}");
        self.notes(before, operation).await;
        if answer.text.is_empty() { Value::Null } else { answer.json() }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_change_leaves_its_action_in_the_log() {
    let mut known = BTreeMap::from(CHANGING);
    let mut left = BTreeMap::new();
    for operation in otaru_server::api::operations().iter().filter(|operation| !operation.starts_with("GET "))
    {
        match known.remove_entry(operation.as_str()) {
            None => panic!("{operation} is new: give it an action in the audit log, and a line here"),
            Some((operation, Ok(action))) => drop(left.insert(operation, action)),
            Some((_, Err(why))) => println!("{operation} leaves none: {why}"),
        }
    }
    assert!(known.is_empty(), "the API has these no more: {known:?}");
    let bench = with_key().await;
    let mut log = Log { bench: &bench, left: &mut left };
    credentials(&mut log).await;
    devices(&mut log).await;
    releases(&mut log).await;
    let (bench, _) = furnished().await;
    rollouts(&mut Log { bench: &bench, left: &mut left }).await;
    assert!(left.is_empty(), "these are not done here: {left:?}");
}

async fn credentials(log: &mut Log<'_>) {
    let made = log.does("POST /tokens", "/tokens", json!({"name": "t", "role": "viewer"})).await;
    log.does("DELETE /tokens/{id}", &format!("/tokens/{}", made["id"].as_str().unwrap()), Value::Null).await;
    let made = log.does("POST /fleet-keys", "/fleet-keys", json!({"name": "line"})).await;
    log.does("POST /claim", "/claim", json!({"device": "claimed", "fleet_key": made["text"]})).await;
    let path = format!("/fleet-keys/{}", made["id"].as_str().unwrap());
    log.does("DELETE /fleet-keys/{id}", &path, Value::Null).await;
}

async fn devices(log: &mut Log<'_>) {
    log.does("POST /devices", "/devices", json!({"id": "lamp"})).await;
    let tags = json!({"which": {"q": "lamp"}, "set": {"batch": "7"}});
    log.does("POST /devices/tags", "/devices/tags", tags).await;
    log.does("PATCH /devices/{id}", "/devices/lamp", json!({"label": "hall"})).await;
    for (operation, path) in [
        ("POST /devices/{id}/allow-claim", "/devices/lamp/allow-claim"),
        ("POST /devices/{id}/password", "/devices/lamp/password"),
        ("POST /devices/{id}/retire", "/devices/lamp/retire"),
        ("POST /devices/{id}/unretire", "/devices/lamp/unretire"),
    ] {
        log.does(operation, path, json!({})).await;
    }
}

/// Releases, and a device whose update fails and is tried again.
async fn releases(log: &mut Log<'_>) {
    let (before, _) = log.since(0).await;
    let bench = log.bench;
    let id = bench.upload(lamp("1.1.0")).await;
    log.notes(before, "POST /releases").await;
    log.does("PATCH /releases/{id}", &format!("/releases/{id}"), json!({"notes": "brighter"})).await;
    log.does("POST /releases/{id}/yank", &format!("/releases/{id}/yank"), Value::Null).await;
    log.does("POST /releases/{id}/unyank", &format!("/releases/{id}/unyank"), Value::Null).await;
    bench.device("hall", "1.0.0").await;
    let spec = json!({"name": "x", "release": id, "attempts": {"count": 1}, "continuous": true});
    // Its file may still be made anew in the background.
    let made = async {
        loop {
            let answer = bench.post("/rollouts", spec.clone()).await;
            if answer.status.is_success() {
                return answer.json()["id"].as_u64().unwrap();
            }
            answer.problem(409, "conflict");
            sleep(Duration::from_millis(50)).await;
        }
    };
    let rollout = timeout(LIMIT, made).await.unwrap();
    bench.offered("hall", "1.0.0").await;
    let failed = json!({"version": "1.1.0", "image": Digest::of(&lamp("1.1.0")).to_string(), "boots": 1});
    bench.report("hall", "1.0.0", &lamp("1.0.0"), json!({"state": "rolled_back", "failed": failed})).await;
    bench.waits_for(rollout, "rolled_back").await;
    let path = format!("/rollouts/{rollout}/deployments/hall/retry");
    log.does("POST /rollouts/{id}/deployments/{device}/retry", &path, json!({"force": true})).await;
    log.does("POST /releases/{id}/build", &format!("/releases/{id}/build"), Value::Null).await;
}

/// Rollouts, of which the first waits for its start.
async fn rollouts(log: &mut Log<'_>) {
    log.does("POST /rollouts/{id}/start", "/rollouts/1/start", json!({})).await;
    let spec = json!({"name": "half", "release": 1, "force": true,
                      "waves": [{"size": {"devices": 1}}, {"size": {"devices": 2}}], "target": {"percent": 10}});
    let half = log.does("POST /rollouts", "/rollouts", spec).await["id"].to_string();
    for (operation, body) in [
        ("POST /rollouts/{id}/pause", json!({})),
        ("POST /rollouts/{id}/resume", json!({})),
        ("POST /rollouts/{id}/advance", json!({})),
        ("POST /rollouts/{id}/widen", json!({"percent": 50})),
        ("POST /rollouts/{id}/finish", json!({})),
    ] {
        let action = operation.rsplit('/').next().unwrap();
        log.does(operation, &format!("/rollouts/{half}/{action}"), body).await;
    }
    log.does("POST /rollouts/{id}/abort", "/rollouts/2/abort", json!({"cancel": true})).await;
}
