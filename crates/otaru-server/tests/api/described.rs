//! Holds every answer of the API to the API's own description, so that each test of this folder proves a piece of it.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};

use axum::http::{Method, header};
use jsonschema::Validator;
use serde_json::{Value, json};

use crate::bench::Answer;

static DOCUMENT: LazyLock<Value> =
    LazyLock::new(|| serde_json::to_value(otaru_server::api::document()).unwrap());

/// Validators by what they validate, since one takes longer to make than to use.
static VALIDATORS: LazyLock<Mutex<HashMap<String, Arc<Validator>>>> = LazyLock::new(Mutex::default);

/// Fails unless the description has this answer: its status, its kind of content and, of JSON, its schema.
#[track_caller]
pub(crate) fn check(method: &Method, path: &str, answer: &Answer) {
    let Some((name, operation)) = operation(method, path) else { return };
    let status = answer.status.as_str();
    let responses = &operation["responses"];
    // Every problem is described at once.
    let others = responses.get("default").filter(|_| answer.status.as_u16() >= 400);
    let Some(response) = responses.get(status).or(others) else {
        panic!("{name}: the description has no answer {status}: {answer:?}");
    };
    let Some(kind) = answer.headers.get(header::CONTENT_TYPE) else { return };
    let kind = kind.to_str().unwrap().split(';').next().unwrap();
    let Some(content) = response["content"].get(kind) else {
        panic!("{name}: the description has no {kind} for {status}: {answer:?}");
    };
    if kind.ends_with("json") {
        let faults: Vec<String> = validator(&format!("{name} {status} {kind}"), &content["schema"])
            .iter_errors(&answer.json())
            .map(|error| format!("at {}: {error}", error.instance_path()))
            .collect();
        assert_eq!(faults, Vec::<String>::new(), "{name}: {answer:?}");
    }
}

/// Finds the operation of a request, and its name, such as `GET /api/v1/devices/{id}`. A path without a parameter comes first.
fn operation(method: &Method, path: &str) -> Option<(String, &'static Value)> {
    let of_path = |pattern: &str| {
        let same = |(pattern, part): (&str, &str)| pattern == part || pattern.starts_with('{');
        pattern.split('/').count() == path.split('/').count()
            && pattern.split('/').zip(path.split('/')).all(same)
    };
    let paths = DOCUMENT["paths"].as_object()?;
    let fit = paths.iter().filter(|(pattern, _)| of_path(pattern));
    let (pattern, item) = fit.min_by_key(|(pattern, _)| pattern.matches('{').count())?;
    let operation = item.get(method.as_str().to_lowercase())?;
    Some((format!("{method} {pattern}"), operation))
}

fn validator(name: &str, schema: &Value) -> Arc<Validator> {
    let make = || {
        let whole = json!({"allOf": [schema], "components": DOCUMENT["components"]});
        Arc::new(jsonschema::draft202012::options().should_validate_formats(true).build(&whole).unwrap())
    };
    VALIDATORS.lock().unwrap().entry(name.to_owned()).or_insert_with(make).clone()
}

#[test]
fn what_the_description_does_not_have_is_seen() {
    let answer = |status: u16, kind: &'static str, text: &str| Answer {
        status: status.try_into().unwrap(),
        headers: [(header::CONTENT_TYPE, kind.parse().unwrap())].into_iter().collect(),
        text: text.to_owned(),
    };
    let refused = |path: &'static str, answer: Answer| {
        std::panic::catch_unwind(|| check(&Method::GET, path, &answer)).is_err()
    };
    let entry = |at: &str| {
        json!({"items": [{"id": 1, "at": at, "actor": "a", "action": "rollout.start", "object": "rollout/1", "detail": "start"}],
               "next": null})
        .to_string()
    };
    let good = entry("2026-11-29T03:24:44.123Z");
    assert!(!refused("/api/v1/audit", answer(200, "application/json", &good)));
    assert!(refused("/api/v1/audit", answer(200, "application/json", &entry("yesterday"))), "a moment");
    assert!(refused("/api/v1/audit", answer(200, "application/json", "{}")), "a field that is missing");
    assert!(refused("/api/v1/audit", answer(200, "text/html", &good)), "a kind of content");
    assert!(refused("/api/v1/audit", answer(299, "application/json", &good)), "a status");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_action_on_a_rollout_is_in_the_log_as_described() {
    let (bench, _) = crate::moments::furnished().await;
    let spec = json!({"name": "half", "release": 1, "force": true,
                      "waves": [{"size": {"devices": 1}}, {"size": {"devices": 2}}], "target": {"percent": 10}});
    let half = bench.post("/rollouts", spec).await.is(201).json();
    let half = format!("/rollouts/{}", half["id"]);
    for (action, body) in [
        ("pause", json!({})),
        ("resume", json!({})),
        ("advance", json!({})),
        ("widen", json!({"percent": 50})),
        ("finish", json!({})),
    ] {
        bench.post(&format!("{half}/{action}"), body).await.is(200);
    }
    bench.post("/rollouts/1/abort", json!({"cancel": true})).await.is(200);
    let log = bench.get("/audit?action=rollout.").await.is(200).json();
    let actions: Vec<&str> =
        log["items"].as_array().unwrap().iter().map(|entry| entry["action"].as_str().unwrap()).collect();
    for action in ["start", "pause", "resume", "advance", "widen", "finish", "abort"] {
        assert!(actions.contains(&format!("rollout.{action}").as_str()), "{action}: {actions:?}");
    }
    for path in [&half, "/rollouts/1"] {
        bench.get(&format!("{path}/events")).await.is(200);
    }
}
