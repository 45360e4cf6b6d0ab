//! Audit actions of the API's operations. The operations are read from the API's own description, so that none can be forgotten.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

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

/// Returns every operation of the description that is not a GET.
fn changing() -> Vec<String> {
    let document = serde_json::to_value(otaru_server::api::document()).unwrap();
    let mut all = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        let path = path.strip_prefix("/api/v1").unwrap();
        let methods = ["post", "patch", "put", "delete"].into_iter().filter(|name| item.get(name).is_some());
        all.extend(methods.map(|method| format!("{} {path}", method.to_uppercase())));
    }
    all
}

/// Returns the sources of the server.
fn sources(folder: &Path) -> String {
    let mut text = String::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => text.push_str(&sources(&path)),
            false => text.push_str(&fs::read_to_string(&path).unwrap_or_default()),
        }
    }
    text
}

#[test]
fn every_change_has_its_action_in_the_audit_log() {
    let mut known = BTreeMap::from(CHANGING);
    let sources = sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    for operation in changing() {
        match known.remove(operation.as_str()) {
            None => panic!("{operation} is new: give it an action in the audit log, and a line here"),
            Some(Ok(action)) => {
                assert!(sources.contains(&format!("\"{action}\"")), "{operation}: nothing writes {action}");
            }
            Some(Err(why)) => println!("{operation} leaves none: {why}"),
        }
    }
    assert!(known.is_empty(), "the API has these no more: {known:?}");
}
