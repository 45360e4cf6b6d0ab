//! Moments are RFC 3339 in every answer, every request, and in the description.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::{Method, Request};
use otaru_api::Timestamp;
use otaru_rollout::Time;
use otaru_server::clock::Clock;
use serde_json::{Value, json};

use crate::bench::{Bench, LIMIT};

/// 2026-11-29T03:24:44.123Z.
const NOW: u64 = 1_795_922_684_123;

/// A server whose clock stands still there, with one of each thing that has moments.
pub(crate) async fn furnished() -> (Bench, Arc<AtomicU64>) {
    let now = Arc::new(AtomicU64::new(NOW));
    let clock = Arc::clone(&now);
    let bench = Bench::start_at(|_| {}, Clock::new(move || Time(clock.load(Ordering::Relaxed)))).await;
    bench.post("/devices", json!({"id": "lamp", "tags": {"site": "berlin"}})).await.is(201);
    bench.post("/devices", json!({"id": "old"})).await.is(201);
    bench.post("/devices/old/retire", json!({})).await.is(200);
    bench.post("/devices/lamp/allow-claim", json!({})).await.is(200);
    bench.post("/fleet-keys", json!({"name": "line"})).await.is(201);
    let token = json!({"name": "t", "role": "viewer", "expires_at": "2027-01-31T23:00:00+01:00"});
    let token = bench.post("/tokens", token).await.is(201).json();
    let ended = bench.post("/tokens", json!({"name": "gone", "role": "viewer"})).await.is(201).json();
    let ended = format!("/tokens/{}", ended["id"].as_str().unwrap());
    bench.ask(Some(&bench.admin), Method::DELETE, &ended, None).await.is(204);
    bench.ask(token["text"].as_str(), Method::GET, "/me", None).await.is(200);
    let made = bench.server.app().db.write(|tx| {
        tx.execute_batch(
            "INSERT INTO artifacts (digest, size, used_at) VALUES (zeroblob(32), 1, 1);
             INSERT INTO releases (image, product, version, chip, image_size, raw, created_at, created_by)
               VALUES (zeroblob(32), 'lamp', '1.0.0', 'esp32c3', 1, zeroblob(32), 1, 'x');
             INSERT INTO jobs (release, kind, state, created_at, ended_at) VALUES (1, 'build', 'done', 1, 2);
             UPDATE devices SET chip = 'esp32c3', product = 'lamp', version = '0.9.0', image = randomblob(32),
               last_seen = 1795922684123, reachable = TRUE WHERE id = 'lamp';",
        )?;
        Ok::<_, otaru_server::db::DbError>(())
    });
    made.await.unwrap();
    let times = json!({
        "name": "later", "release": 1,
        "start_at": "2026-12-01T23:00:00+01:00", "end_at": "2026-12-24t12:00:00.5z",
    });
    bench.post("/rollouts", times).await.is(201);
    bench.post("/rollouts", json!({"name": "now", "release": 1, "force": true})).await.is(201);
    let end = Instant::now() + LIMIT;
    while bench.get("/rollouts/2/deployments").await.json()["items"][0].is_null() {
        assert!(Instant::now() < end, "nobody is in it");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    (bench, now)
}

/// Whether a field of this name is a moment.
fn is_moment(name: &str) -> bool {
    name.ends_with("_at")
        || ["at", "until", "since", "first_seen", "last_seen", "not_before", "soaking"].contains(&name)
}

/// Calls `see` for every field in a value, with its path.
fn walk(value: &Value, path: &str, see: &mut impl FnMut(&str, &str, &Value)) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let path = format!("{path}.{name}");
                see(&path, name, value);
                walk(value, &path, see);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| walk(item, path, see)),
        _ => {}
    }
}

/// Checks an answer: each moment is a text that is read as itself, and no number could be one. Says which moments it has.
fn moments(answer: &Value, path: &str) -> Vec<String> {
    let mut found = Vec::new();
    walk(answer, path, &mut |path, name, value| {
        assert!(value.as_f64().is_none_or(|number| number < 1e9), "{path}: {value}");
        if !is_moment(name) || value.is_null() {
            return;
        }
        let text = value.as_str().unwrap_or_else(|| panic!("{path}: {value} is no text"));
        let moment: Timestamp = text.parse().unwrap_or_else(|error| panic!("{path}: {text}: {error}"));
        assert_eq!(moment.to_string(), text, "{path}");
        found.push(path.to_owned());
    });
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_has_them_as_rfc_3339() {
    let (bench, _) = furnished().await;
    let mut found = Vec::new();
    for path in [
        "/fleet",
        "/devices",
        "/devices?retired=true",
        "/devices/lamp",
        "/devices/lamp/history",
        "/releases",
        "/releases/1",
        "/rollouts",
        "/rollouts/1",
        "/rollouts/1/events",
        "/rollouts/2/deployments",
        "/tokens",
        "/fleet-keys",
        "/audit",
        "/me",
    ] {
        found.extend(moments(&bench.get(path).await.is(200).json(), path));
    }
    for wanted in [
        "/devices.items.first_seen",
        "/devices.items.last_seen",
        "/devices?retired=true.items.retired_at",
        "/devices/lamp.deployments.updated_at",
        "/devices/lamp/history.items.at",
        "/releases.items.created_at",
        "/releases/1.job.ended_at",
        "/rollouts.items.spec.start_at",
        "/rollouts/1.spec.start_at",
        "/rollouts/1.spec.end_at",
        "/rollouts/1.created_at",
        "/rollouts/1.updated_at",
        "/rollouts/1/events.items.at",
        "/rollouts/2/deployments.items.created_at",
        "/tokens.items.expires_at",
        "/tokens.items.used_at",
        "/tokens.items.revoked_at",
        "/fleet-keys.items.created_at",
        "/audit.items.at",
        "/audit.items.detail.until",
    ] {
        assert!(found.iter().any(|path| path == wanted), "{wanted} is not among {found:#?}");
    }
    let rollout = bench.get("/rollouts/1").await.json();
    assert_eq!(rollout["spec"]["start_at"], "2026-12-01T22:00:00.000Z");
    assert_eq!(rollout["spec"]["end_at"], "2026-12-24T12:00:00.500Z");
    assert_eq!(rollout["created_at"], "2026-11-29T03:24:44.123Z");
    let tokens = bench.get("/tokens").await.json();
    let token = tokens["items"].as_array().unwrap().iter().find(|token| token["name"] == "t").unwrap();
    assert_eq!(token["expires_at"], "2027-01-31T22:00:00.000Z");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_begins_at_the_moment_that_was_asked_for() {
    let (bench, now) = furnished().await;
    let start: Timestamp = "2026-12-01T22:00:00Z".parse().unwrap();
    let phase = async || bench.get("/rollouts/1").await.json()["phase"].clone();
    now.store(Time::from(start).0 - 1, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(phase().await, "scheduled");
    now.store(Time::from(start).0, Ordering::Relaxed);
    let end = Instant::now() + LIMIT;
    while phase().await == "scheduled" {
        assert!(Instant::now() < end, "it does not begin");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_moment_is_refused_with_the_form() {
    let (bench, _) = furnished().await;
    for (given, words) in [
        (json!(NOW), "`{}`: expected a moment as in RFC 3339"),
        (json!(1.5), "`{}`: expected a moment as in RFC 3339"),
        (json!("2h"), "`{}`: expected a moment as in RFC 3339"),
        (json!("2027-01-31"), "`{}`: expected a moment as in RFC 3339"),
        (json!("2027-01-31 22:00:00Z"), "`{}`: expected a moment as in RFC 3339"),
        (json!("2027-01-31T22:00:00"), "`{}`: the offset from UTC is missing"),
        (json!("1969-12-31T23:59:59Z"), "`{}`: the year is not one of 1970 to 9999"),
        (json!("9999-12-31T23:59:59-01:00"), "`{}`: the year is not one of 1970 to 9999"),
        (json!("2027-01-31T22:00:60Z"), "`{}`: a leap second can only be at 23:59:60 UTC"),
    ] {
        let token = |name: &str| json!({"name": "x", "role": "viewer", name: given});
        let rollout = |name: &str| json!({"name": "x", "release": 1, name: given});
        for (path, name, body) in [
            ("/tokens", "expires_at", token("expires_at")),
            ("/rollouts", "start_at", rollout("start_at")),
            ("/rollouts", "end_at", rollout("end_at")),
            ("/rollouts/preview", "start_at", rollout("start_at")),
        ] {
            let answer = bench.post(path, body).await.problem(422, "invalid").json();
            let detail = answer["detail"].as_str().unwrap();
            assert!(detail.starts_with(&words.replace("{}", name)), "{given}: {detail}");
            assert!(detail.contains("such as 2026-11-29T03:24:44Z"), "{given}: {detail}");
        }
    }
    // What is given with another offset is held against the other by the moment, not by its text.
    let body = json!({
        "name": "x", "release": 1, "start_at": "2027-01-31T22:00:00Z", "end_at": "2027-01-31T22:30:00+01:00",
    });
    let answer = bench.post("/rollouts", body).await.problem(422, "invalid").json();
    assert_eq!(answer["detail"], "the rollout would end before it starts");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_moment_with_another_offset_is_the_same_request() {
    let (bench, _) = furnished().await;
    let ask = async |end: &str| {
        let body = json!({"name": "x", "release": 1, "start_at": end, "draft": true});
        let request = Request::post("/api/v1/rollouts")
            .header("authorization", format!("Bearer {}", bench.admin))
            .header("content-type", "application/json")
            .header("idempotency-key", "one");
        bench.send(request.body(Body::from(body.to_string())).unwrap()).await.is(201).json()["id"].clone()
    };
    assert_eq!(ask("2027-01-31T22:00:00Z").await, ask("2027-01-31T23:00:00+01:00").await);
}

#[test]
fn the_description_says_date_time() {
    let document = serde_json::to_value(otaru_server::api::document()).unwrap();
    let schemas = &document["components"]["schemas"];
    // A field may also be null, and mostly it names the schema instead of having it.
    let has_format = |field: &Value| {
        let all = [vec![field.clone()], field["oneOf"].as_array().cloned().unwrap_or_default()].concat();
        all.iter().any(|one| {
            let name = one["$ref"].as_str().and_then(|name| name.strip_prefix("#/components/schemas/"));
            let schema = name.map_or(one, |name| &schemas[name]);
            schema["format"] == "date-time" && schema["type"] == "string"
        })
    };
    let mut seen = Vec::new();
    walk(schemas, "", &mut |path, name, value| {
        // Names of fields only.
        if path.ends_with(&format!("properties.{name}")) && is_moment(name) {
            assert!(has_format(value), "{path}: {value}");
            seen.push(path.to_owned());
        }
        if name == "description" {
            assert!(!value.to_string().contains("milliseconds since"), "{path}: {value}");
        }
    });
    assert!(seen.len() >= 25, "{seen:#?}");
    let about = document["info"]["description"].as_str().unwrap();
    assert!(about.contains("Moments are RFC 3339"), "{about}");
}
