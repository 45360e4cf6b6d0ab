//! Rights of each role. The operations are read from the API's own description, so that none can be forgotten.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::http::{Method, Request, header};
use base64::Engine as _;
use otaru_rollout::Time;
use otaru_server::clock::Clock;
use serde_json::{Value, json};

use crate::bench::{Bench, Logs};

/// Operations that anybody may call; each checks a secret of its own.
const PUBLIC: [(&str, &str); 1] = [("POST", "/claim")];

/// Every operation: its method, and its path with something in the place of parameters.
fn operations() -> Vec<(Method, String, String)> {
    let document = serde_json::to_value(otaru_server::api::document()).unwrap();
    let mut all = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        let template = path.strip_prefix("/api/v1").unwrap().to_owned();
        let filled = template.replace("{id}", "1").replace("{device}", "lamp");
        for method in ["get", "post", "patch", "delete", "put"] {
            if item.get(method).is_some() {
                all.push((method.to_uppercase().parse().unwrap(), template.clone(), filled.clone()));
            }
        }
    }
    assert!(all.len() > 35, "the description has the whole API: {}", all.len());
    all
}

fn is_public(method: &Method, template: &str) -> bool {
    PUBLIC.contains(&(method.as_str(), template))
}

/// The weakest role that may call it.
fn needed(method: &Method, template: &str) -> &'static str {
    match (method.as_str(), template) {
        ("GET", "/tokens" | "/fleet-keys") => "admin",
        ("GET", "/audit") => "operator",
        ("GET", _) => "viewer",
        (_, "/tokens" | "/tokens/{id}" | "/fleet-keys" | "/fleet-keys/{id}") => "admin",
        ("POST", "/devices" | "/devices/{id}/password" | "/devices/{id}/allow-claim") => "admin",
        _ => "operator",
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_without_a_token_or_with_a_wrong_one() {
    let bench = Bench::start().await;
    let wrong = format!("otaru_{}_{}", "0".repeat(8), "0".repeat(64));
    let mut cut = bench.admin.clone();
    cut.pop();
    cut.push(if bench.admin.ends_with('0') { '1' } else { '0' });
    let mut tried = 0;
    for (method, template, path) in operations() {
        if is_public(&method, &template) {
            continue;
        }
        for token in [None, Some(""), Some("x"), Some(wrong.as_str()), Some(cut.as_str())] {
            let answer = bench.ask(token, method.clone(), &path, Some(json!({}))).await;
            // After many failures from one address it is told to wait; never is it let in.
            if answer.status == 429 {
                assert!(answer.headers.contains_key(header::RETRY_AFTER));
                continue;
            }
            let answer = answer.problem(401, "unauthorized");
            assert!(answer.headers.contains_key(header::WWW_AUTHENTICATE), "{method} {path}");
            tried += 1;
        }
    }
    println!("{} operations, {tried} calls without a good token were refused as such", operations().len());
    assert!(tried > 10);
    bench.get("/me").await.is(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_role_does_more_than_it_may() {
    let bench = Bench::start().await;
    let tokens = BTreeMap::from([
        ("viewer", bench.token("viewer").await),
        ("operator", bench.token("operator").await),
        ("admin", bench.token("admin").await),
    ]);
    let order = ["viewer", "operator", "admin"];
    let bodies = [json!({"?": 1}), json!([]), Value::Null];
    let mut calls = 0;
    for (method, template, path) in operations() {
        if is_public(&method, &template) || template == "/events" {
            continue;
        }
        // The weakest first: what a stronger one does may change what is there.
        for role in order {
            let rank = |role: &str| order.iter().position(|name| *name == role).unwrap();
            let may = rank(role) >= rank(needed(&method, &template));
            for body in &bodies {
                calls += 1;
                // Bodies that make no sense: nothing is changed, and who may not does not learn that.
                let answer = bench.ask(Some(&tokens[role]), method.clone(), &path, Some(body.clone())).await;
                match may {
                    false => drop(answer.problem(403, "forbidden")),
                    true => assert!(
                        !matches!(answer.status.as_u16(), 401 | 403) && answer.status.as_u16() < 500,
                        "{role} {method} {path}: {answer:?}"
                    ),
                }
            }
        }
    }
    println!("{calls} calls of every operation by every role");
    assert!(calls > 292, "{calls}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_or_expired_token_ends_at_once() {
    let bench = Bench::start().await;
    let made = bench.post("/tokens", json!({"name": "t", "role": "viewer"})).await.is(201).json();
    let (id, text) = (made["id"].as_str().unwrap(), made["text"].as_str().unwrap());
    bench.ask(Some(text), Method::GET, "/me", None).await.is(200);
    bench.ask(Some(&bench.admin), Method::DELETE, &format!("/tokens/{id}"), None).await.is(204);
    let told = async |token: Option<&str>| {
        let answer = bench.ask(token, Method::GET, "/me", None).await.problem(401, "unauthorized");
        answer.json()["detail"].as_str().unwrap().to_owned()
    };
    let revoked = told(Some(text)).await;
    assert!(revoked.starts_with("this token was revoked at 2"), "{revoked}");
    // What became of a token is told to who has its secret, and to nobody who knows its id alone.
    let guessed = format!("{}x", &text[..text.len() - 1]);
    assert_eq!(told(Some(&guessed)).await, "this token is not known here");
    assert!(told(None).await.starts_with("give a valid API token"));
    bench
        .ask(Some(&bench.admin), Method::DELETE, &format!("/tokens/{id}"), None)
        .await
        .problem(404, "not-found");
    let old = bench
        .post("/tokens", json!({"name": "t", "role": "admin", "expires_at": "1970-01-01T00:00:00.001Z"}));
    let old = old.await.is(201).json();
    assert_eq!(told(old["text"].as_str()).await, "this token expired at 1970-01-01T00:00:00.001Z");
    let listed = bench.get("/tokens").await.is(200).text;
    assert!(!listed.contains(text), "a list has no secrets");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_done_stands_in_the_audit_log() {
    let bench = Bench::start().await;
    bench.token("viewer").await;
    bench.post("/devices", json!({"id": "lamp", "tags": {"site": "berlin"}})).await.is(201);
    let log = bench.get("/audit").await.is(200).json();
    let actions: Vec<&str> =
        log["items"].as_array().unwrap().iter().map(|entry| entry["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["device.add", "device.change", "token.create", "token.create"]);
    let one = bench.get("/audit?action=device.&object=device/lamp&limit=1").await.is(200).json();
    assert_eq!(one["items"].as_array().unwrap().len(), 1);
    let next = one["next"].as_str().unwrap();
    let rest = bench.get(&format!("/audit?action=device.&cursor={next}")).await.is(200).json();
    assert_eq!((rest["items"].as_array().unwrap().len(), &rest["next"]), (1, &Value::Null));
}

/// The only test here that listens to logs: they are the whole process's.
#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_logged() {
    let logs = Logs::all();
    let bench = Bench::start().await;
    let token = bench.token("operator").await;
    let device = bench.post("/devices", json!({"id": "lamp"})).await.is(201).json();
    let key = bench.post("/fleet-keys", json!({"name": "line"})).await.is(201).json();
    let key = key["text"].as_str().unwrap();
    let claimed =
        bench.ask(None, Method::POST, "/claim", Some(json!({"device": "new", "fleet_key": key}))).await;
    let claimed = claimed.is(201).json();
    bench.ask(Some("otaru_wrong"), Method::GET, "/me", None).await.is(401);
    let address = bench.server.http();
    let (secret, path) = (token.clone(), "/api/v1/me");
    let sent = tokio::task::spawn_blocking(move || {
        use std::io::{Read as _, Write as _};
        let mut connection = std::net::TcpStream::connect(address).unwrap();
        write!(
            connection,
            "GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {secret}\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let mut text = String::new();
        connection.read_to_string(&mut text).unwrap();
        text
    });
    assert!(sent.await.unwrap().starts_with("HTTP/1.1 200"));
    let text = logs.text();
    assert!(text.contains("answered"), "requests are logged: {text}");
    for secret in [
        bench.admin.as_str(),
        &token,
        key,
        device["password"].as_str().unwrap(),
        claimed["password"].as_str().unwrap(),
    ] {
        let tail = &secret[secret.len() - 24..];
        assert!(!text.contains(tail), "a secret was logged");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_key_claims_a_device_once() {
    let bench = Bench::start().await;
    let made = bench.post("/fleet-keys", json!({"name": "line", "tags": {"line": "1"}})).await.is(201).json();
    let key = made["text"].as_str().unwrap();
    let claim = |device: &str, key: &str| json!({"device": device, "fleet_key": key});
    let first = bench.ask(None, Method::POST, "/claim", Some(claim("lamp", key))).await.is(201).json();
    assert_eq!(first["username"], "lamp");
    // It has a login of its own now, which a fleet key does not open.
    bench.ask(None, Method::POST, "/claim", Some(claim("lamp", key))).await.problem(409, "conflict");
    bench
        .ask(None, Method::POST, "/claim", Some(claim("other", "fleet_x")))
        .await
        .problem(401, "unauthorized");
    let device = bench.get("/devices/lamp").await.is(200).json();
    assert_eq!(device["tags"]["line"], "1");
    let id = made["id"].as_str().unwrap();
    bench.ask(Some(&bench.admin), Method::DELETE, &format!("/fleet-keys/{id}"), None).await.is(204);
    bench.ask(None, Method::POST, "/claim", Some(claim("late", key))).await.problem(401, "unauthorized");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_key_takes_no_device_away() {
    let now = Arc::new(AtomicU64::new(1_700_000_000_000));
    let clock = Clock::new({
        let now = Arc::clone(&now);
        move || Time(now.load(Ordering::Relaxed))
    });
    let bench = Bench::start_at(|_| {}, clock).await;
    let made = bench.post("/fleet-keys", json!({"name": "line"})).await.is(201).json();
    let key = made["text"].as_str().unwrap();
    let claim = async || {
        let body = json!({"device": "lamp", "fleet_key": key});
        bench.ask(None, Method::POST, "/claim", Some(body)).await
    };
    // It is there, and came with that key.
    let basic = base64::engine::general_purpose::STANDARD.encode(format!("lamp:{key}"));
    let report = json!({
        "device": "lamp", "chip": "esp32c3", "state": "idle", "project": "lamp", "version": "1", "image": "0".repeat(64),
        "slot": 0, "confirmed": true, "boot": "power_on", "uptime": 1,
    });
    let reports = async || {
        let request = Request::post("/api/v1/devices/lamp/status")
            .header(header::AUTHORIZATION, format!("Basic {basic}"))
            .header(header::CONTENT_TYPE, "application/json")
            .body(axum::body::Body::from(report.to_string()));
        bench.send(request.unwrap()).await
    };
    reports().await.is(200);
    claim().await.problem(409, "conflict");
    reports().await.is(200);
    // An admin allows it: once, and not for ever.
    let allow = async |token: &str| {
        bench.ask(Some(token), Method::POST, "/devices/lamp/allow-claim", Some(json!({}))).await
    };
    allow(&bench.token("operator").await).await.problem(403, "forbidden");
    allow(&bench.admin).await.is(200);
    now.fetch_add(61 * 60_000, Ordering::Relaxed);
    claim().await.problem(409, "conflict");
    allow(&bench.admin).await.is(200);
    now.fetch_sub(3 * 3_600_000, Ordering::Relaxed);
    claim().await.problem(409, "conflict");
    now.fetch_add(3 * 3_600_000 + 59 * 60_000, Ordering::Relaxed);
    claim().await.is(201);
    claim().await.problem(409, "conflict");
    reports().await.is(401);
    // It can be seen who that was, and from where.
    let audit = bench.get("/audit?object=device/lamp").await.json();
    let last = &audit["items"][0];
    assert_eq!(
        (&last["actor"], &last["action"]),
        (&json!("fleet key line"), &json!("device.claim")),
        "{audit}"
    );
    assert_eq!(
        (&last["detail"]["fleet_key"], &last["detail"]["address"]),
        (&made["id"], &json!("127.0.0.1"))
    );
    let first = audit["items"].as_array().unwrap().last().unwrap();
    assert_eq!((&first["actor"], &first["action"]), (&json!("fleet key line"), &json!("device.register")));
    let history = bench.get("/devices/lamp/history").await.json();
    assert_eq!(history["items"][0]["kind"], "claimed");
    assert_eq!(history["items"][0]["detail"]["address"], "127.0.0.1");
    let retired = bench.post("/devices/lamp/retire", json!({})).await.is(200);
    drop(retired);
    claim().await.problem(409, "conflict");
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_logins_are_slowed_down_and_good_ones_are_not() {
    let bench = Bench::start().await;
    let mut told_to_wait = 0;
    for _ in 0..60 {
        let answer = bench.ask(Some("otaru_wrong"), Method::GET, "/me", None).await;
        told_to_wait += u32::from(answer.status == 429);
        bench.get("/me").await.is(200);
    }
    assert!(told_to_wait > 20, "{told_to_wait}");
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_count_for_who_failed_not_for_the_proxy() {
    let bench = Bench::start_with(|config| config.trusted_proxies = vec!["127.0.0.1".parse().unwrap()]).await;
    let address = bench.server.http();
    let fail = async |whom: &str| {
        let text = format!(
            "GET /api/v1/me HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: {whom}\r\nAuthorization: Bearer otaru_x\r\nConnection: close\r\n\r\n"
        );
        crate::hostile::status(&crate::hostile::sends(address, text.into()).await)
    };
    let mut refused = 0;
    for _ in 0..40 {
        refused += u32::from(fail("203.0.113.7").await == 429);
    }
    assert!(refused > 10, "{refused}");
    assert_eq!(fail("203.0.113.8").await, 401, "somebody else behind the same proxy");
    // What stands before the last address was written by its owner.
    assert_eq!(fail("203.0.113.9, 203.0.113.7").await, 429);
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_and_fleet_keys_are_slowed_down_as_well() {
    let bench = Bench::start().await;
    bench.post("/devices", json!({"id": "lamp"})).await.is(201);
    let mut told_to_wait = 0;
    for number in 0..60 {
        let answer = match number % 2 {
            0 => {
                let claim = json!({"device": "lamp", "fleet_key": "guess"});
                bench.ask(None, Method::POST, "/claim", Some(claim)).await
            }
            _ => {
                // `lamp:guess`
                let request = axum::http::Request::post("/api/v1/devices/lamp/status")
                    .header(header::AUTHORIZATION, "Basic bGFtcDpndWVzcw==")
                    .body(axum::body::Body::empty());
                bench.send(request.unwrap()).await
            }
        };
        match answer.status.as_u16() {
            429 => told_to_wait += 1,
            _ => drop(answer.problem(401, "unauthorized")),
        }
    }
    assert!(told_to_wait > 20, "{told_to_wait}");
}
