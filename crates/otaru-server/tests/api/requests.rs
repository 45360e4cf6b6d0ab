//! Answers to requests: problems, idempotency, the description.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::body::Body;
use axum::http::{Method, Request, header};
use otaru_rollout::Time;
use otaru_server::clock::Clock;
use otaru_server::db;
use serde_json::{Value, json};

use crate::bench::{Answer, Bench};

async fn keyed(bench: &Bench, path: &str, key: &str, body: &Value) -> Answer {
    let request = Request::post(format!("/api/v1{path}"))
        .header(header::AUTHORIZATION, format!("Bearer {}", bench.admin))
        .header(header::CONTENT_TYPE, "application/json")
        .header("idempotency-key", key)
        .body(Body::from(body.to_string()));
    bench.send(request.unwrap()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parameter_that_is_not_known_is_refused_with_those_that_are() {
    let bench = Bench::start().await;
    for (path, told) in [
        (
            "/devices?vershun=1",
            "`vershun` is no parameter here; did you mean version? There are: chip, cursor, ",
        ),
        ("/devices?limit=2&moon=full", "`moon` is no parameter here. There are: "),
        ("/releases?chips=esp32", "did you mean chip?"),
        ("/rollouts?state=running", "There are: cursor, limit, phase"),
        ("/rollouts/7/deployments?code=panic", "There are: cursor, error, limit, standing"),
        ("/devices/nobody/history?from=1", "There are: cursor, limit"),
        ("/events?kind=device", "did you mean kinds?"),
        ("/audit?actors=first", "did you mean actor?"),
        ("/fleet?limit=1", "`limit` is no parameter here: this takes none"),
        ("/devices?standing=failed", "`standing` is that of a deployment: give `rollout`"),
    ] {
        let problem = bench.get(path).await.problem(422, "invalid").json();
        assert!(problem["detail"].as_str().unwrap().contains(told), "{path}: {problem}");
    }
    bench.post("/devices?dry=1", json!({"id": "lamp"})).await.problem(422, "invalid");
    bench.get("/devices/lamp").await.problem(404, "not-found");
    bench.get("/devices?sort=state&descending=true&limit=2&chip=esp32").await.is(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_told_as_a_problem() {
    let bench = Bench::start().await;
    bench.get("/devices/nobody").await.problem(404, "not-found");
    bench.get("/rollouts/7").await.problem(404, "not-found");
    bench.get("/devices?limit=0").await.problem(422, "invalid");
    bench.get("/devices?limit=x").await.problem(422, "invalid");
    bench.get("/devices?cursor=zz").await.problem(422, "invalid");
    bench.get("/devices?tags=and").await.problem(422, "invalid");
    bench.get("/devices?versions=newest").await.problem(422, "invalid");
    bench.get("/rollouts?phase=great").await.problem(422, "invalid");
    bench.get("/events?kinds=weather").await.problem(422, "invalid");
    bench.post("/tokens", json!({"name": "x"})).await.problem(422, "invalid");
    bench.post("/tokens", json!({"name": "x", "role": "viewer", "more": 1})).await.problem(422, "invalid");
    bench
        .post("/tokens", json!({"name": "a\r\nSet-Cookie: x", "role": "viewer"}))
        .await
        .problem(422, "invalid");
    bench.post("/devices", json!({"id": "a/b"})).await.problem(422, "invalid");
    bench.post("/rollouts", json!({"name": "x"})).await.problem(422, "invalid");
    bench.post("/rollouts", json!({"name": "x", "release": 9})).await.problem(404, "not-found");
    bench.ask(Some(&bench.admin), Method::DELETE, "/me", None).await.problem(405, "method-not-allowed");
    let request = Request::post("/api/v1/tokens")
        .header(header::AUTHORIZATION, format!("Bearer {}", bench.admin))
        .body(Body::from("{}"));
    bench.send(request.unwrap()).await.problem(415, "unsupported-media-type");
    let request = Request::post("/api/v1/tokens")
        .header(header::AUTHORIZATION, format!("Bearer {}", bench.admin))
        .header(header::CONTENT_TYPE, "application/json")
        .body(Body::from("{"));
    bench.send(request.unwrap()).await.problem(400, "bad-json");
    let long = "x".repeat(300 * 1024);
    bench.post("/tokens", json!({"name": long, "role": "viewer"})).await.problem(413, "too-large");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_told_in_words_of_the_api() {
    let bench = Bench::start().await;
    let told = async |path: &str, body: Value| {
        let answer = bench.post(path, body).await.problem(422, "invalid");
        answer.json()["detail"].as_str().unwrap().to_owned()
    };
    let target = |target: Value| json!({"name": "x", "release": 1, "target": target});
    assert_eq!(
        told("/rollouts", target(json!({"tags": "site=berlin or and"}))).await,
        "`target.tags` at character 16: and, or, not and in are words of the language; put quotes around them to mean a tag\n  \
         site=berlin or and\n                 ^"
    );
    let versions = told("/rollouts", target(json!({"versions": ">=1.0.0, x"}))).await;
    assert!(versions.starts_with("`target.versions` at character ") && versions.ends_with('^'), "{versions}");
    assert_eq!(told("/tokens", json!({"name": "x"})).await, "`role` is missing");
    assert_eq!(
        told("/rollouts", json!({"name": "x", "release": "one"})).await,
        "`release`: expected a whole number, not string \"one\""
    );
    let asked = async |path: &str| {
        let answer = bench.get(path).await.problem(422, "invalid");
        answer.json()["detail"].as_str().unwrap().to_owned()
    };
    assert_eq!(asked("/devices?limit=x").await, "`limit`: expected a whole number");
    assert_eq!(asked("/devices?retired=x").await, "`retired`: expected true or false");
    let tags = asked("/devices?tags=site%3D").await;
    assert!(tags.starts_with("`tags` at character 6: ") && tags.ends_with("\n  site=\n       ^"), "{tags}");
    let request = Request::post("/api/v1/tokens")
        .header(header::AUTHORIZATION, format!("Bearer {}", bench.admin))
        .header(header::CONTENT_TYPE, "application/json")
        .body(Body::from("{"));
    let answer = bench.send(request.unwrap()).await.problem(400, "bad-json");
    assert_eq!(answer.json()["detail"], "this is no JSON: EOF while parsing an object");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_a_kind_that_do_not_exist_are_refused() {
    let bench = Bench::start().await;
    for (query, meant) in [
        ("state=rolledback", "; did you mean rolled_back? It is one of: idle, checking, "),
        ("health=wel", "; did you mean well? It is one of: well, updating, troubled, away"),
        ("standing=timedout&rollout=1", "; did you mean timed_out? It is one of: ready, waiting, "),
        ("error=panik", "; did you mean panic? "),
    ] {
        let answer = bench.get(&format!("/devices?{query}")).await.problem(422, "invalid");
        assert!(answer.text.contains(meant), "{answer:?}");
    }
    bench.get("/devices?state=rolled_back&health=well&error=panic&standing=active&rollout=1").await.is(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_sent_twice_is_carried_out_once() {
    let bench = Bench::start().await;
    let body = json!({"name": "wall", "role": "viewer"});
    keyed(&bench, "/tokens", "k1", &body).await.is(201);
    // Its secret was shown, and is kept nowhere.
    keyed(&bench, "/tokens", "k1", &body).await.problem(409, "conflict");
    keyed(&bench, "/tokens", "k1", &json!({"name": "else", "role": "viewer"})).await.problem(422, "invalid");
    let tokens = bench.get("/tokens").await.json();
    assert_eq!(tokens["items"].as_array().unwrap().len(), 2, "the first one, and this");
    for bad in ["", &"k".repeat(200)] {
        keyed(&bench, "/tokens", bad, &body).await.problem(400, "bad-idempotency-key");
    }
}

/// Writes a release of number 1 there.
async fn with_a_release(bench: &Bench) {
    let app = bench.server.app().clone();
    app.db
        .write(|tx| {
            tx.execute_batch(
                "INSERT INTO artifacts (digest, size, used_at) VALUES (zeroblob(32), 1, 1);
                 INSERT INTO releases (image, product, version, chip, image_size, raw, created_at, created_by)
                 VALUES (zeroblob(32), 'lamp', '1.0.0', 'esp32c3', 1, zeroblob(32), 1, 'x');",
            )?;
            Ok::<_, otaru_server::db::DbError>(())
        })
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_to_devices_that_are_not_there_is_refused_unless_it_waits_for_them() {
    let bench = Bench::start().await;
    with_a_release(&bench).await;
    for id in ["hall", "attic"] {
        bench.post("/devices", json!({"id": id})).await.is(201);
    }
    bench.post("/devices/attic/retire", json!({})).await.is(200);
    let order = |devices: Value, more: (&str, Value)| json!({"name": "x", "release": 1, "target": {"devices": devices}, more.0: more.1});
    let now = || ("continuous", json!(false));
    let many: Vec<String> = (0..1_000).map(|number| format!("d{number:04}")).collect();
    for (devices, missing) in
        [(json!(["hall", "hal"]), "hal"), (json!(["attic"]), "attic"), (json!(many), "d0000")]
    {
        let answer = bench.post("/rollouts", order(devices, now())).await.problem(422, "invalid").json();
        let said = answer["detail"].as_str().unwrap();
        assert!(said.contains(&format!("no device {missing},")) && said.contains("`continuous`"), "{said}");
    }
    let none = bench.post("/rollouts", order(json!([]), now())).await.problem(422, "invalid").json();
    assert!(none["detail"].as_str().unwrap().contains("names none"), "{none}");
    let more: Vec<String> = (0..1_001).map(|number| format!("d{number:04}")).collect();
    let answer = bench.post("/rollouts", order(json!(more), now())).await.problem(422, "invalid").json();
    assert!(!answer["detail"].as_str().unwrap().contains("no device"), "the list is too long: {answer}");
    bench.post("/rollouts", order(json!(["hall"]), now())).await.is(201);
    for more in
        [("continuous", json!(true)), ("draft", json!(true)), ("start_at", json!("2199-01-01T00:00:00Z"))]
    {
        bench.post("/rollouts", order(json!(["hall", "hal"]), more)).await.is(201);
    }
    // A draft waits for whoever starts it.
    let draft = bench.post("/rollouts", order(json!(["hal"]), ("draft", json!(true)))).await.is(201).json();
    let start = format!("/rollouts/{}/start", draft["id"]);
    bench.post(&start, json!({})).await.problem(422, "invalid");
    bench.post("/devices", json!({"id": "hal"})).await.is(201);
    bench.post(&start, json!({})).await.is(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_at_the_same_time_are_one() {
    let bench = Bench::start().await;
    with_a_release(&bench).await;
    let body = json!({"name": "once", "release": 1});
    let all = futures_util::future::join_all((0..8).map(|_| keyed(&bench, "/rollouts", "same", &body))).await;
    let ids: Vec<Value> = all.into_iter().map(|answer| answer.is(201).json()["id"].clone()).collect();
    assert!(ids.iter().all(|id| id == &ids[0]), "{ids:?}");
    let rollouts = bench.get("/rollouts").await.json();
    assert_eq!(rollouts["items"].as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_at_the_same_time_show_a_secret_once() {
    let bench = Bench::start().await;
    let body = json!({"id": "lamp"});
    let all = futures_util::future::join_all((0..8).map(|_| keyed(&bench, "/devices", "same", &body))).await;
    let (made, told): (Vec<_>, Vec<_>) = all.into_iter().partition(|answer| answer.status == 201);
    assert_eq!(made.len(), 1, "{made:?}");
    for answer in told {
        let answer = answer.problem(409, "conflict");
        assert!(answer.text.contains("shown once"), "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_its_owners_and_for_a_day_and_for_what_was_done() {
    let now = Arc::new(AtomicU64::new(1_700_000_000_000));
    let clock = Clock::new({
        let now = Arc::clone(&now);
        move || Time(now.load(Ordering::Relaxed))
    });
    let bench = Bench::start_at(|_| {}, clock).await;
    let body = json!({"name": "wall", "role": "viewer"});
    // What was refused was not done: the key is still free.
    keyed(&bench, "/tokens", "k", &json!({"name": "\u{7}", "role": "viewer"})).await.problem(422, "invalid");
    keyed(&bench, "/tokens", "k", &body).await.is(201);
    // The same key and body for something else, and of somebody else.
    keyed(&bench, "/fleet-keys", "k", &json!({"name": "wall"})).await.problem(422, "invalid");
    let other = bench.token("admin").await;
    let request = Request::post("/api/v1/tokens")
        .header(header::AUTHORIZATION, format!("Bearer {other}"))
        .header(header::CONTENT_TYPE, "application/json")
        .header("idempotency-key", "k")
        .body(Body::from(body.to_string()));
    bench.send(request.unwrap()).await.is(201);
    now.fetch_add(23 * 3_600_000, Ordering::Relaxed);
    keyed(&bench, "/tokens", "k", &body).await.problem(409, "conflict");
    now.fetch_add(2 * 3_600_000, Ordering::Relaxed);
    keyed(&bench, "/tokens", "k", &body).await.is(201);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_answer_that_is_kept_has_a_secret() {
    let bench = Bench::start().await;
    let token = keyed(&bench, "/tokens", "1", &json!({"name": "t", "role": "viewer"})).await.is(201).json();
    let key = keyed(&bench, "/fleet-keys", "2", &json!({"name": "k"})).await.is(201).json();
    let device = keyed(&bench, "/devices", "3", &json!({"id": "lamp"})).await.is(201).json();
    let claim = json!({"device": "hall", "fleet_key": key["text"]});
    let claimed = bench.ask(None, Method::POST, "/claim", Some(claim)).await.is(201).json();
    let again = bench.post("/devices/lamp/password", json!({})).await.is(200).json();
    let secrets =
        [&token["text"], &key["text"], &device["password"], &claimed["password"], &again["password"]];
    let secrets: Vec<String> = secrets.map(|text| text.as_str().unwrap().to_owned()).into();
    assert!(secrets.iter().all(|secret| secret.len() >= 24));
    // Every text and blob of every table.
    let app = bench.server.app().clone();
    let kept = app.db.read(|tx| {
        let tables = tx.prepare(match tx.dialect() {
            db::Dialect::Sqlite => "SELECT name FROM sqlite_master WHERE type = 'table'",
            db::Dialect::Postgres => {
                "SELECT CAST(tablename AS TEXT) FROM pg_tables WHERE schemaname = 'public'"
            }
        });
        let tables = tables.query_map((), |row| row.get::<String>(0))?.collect::<Result<Vec<_>, _>>()?;
        let mut all = Vec::new();
        for table in tables {
            let sql = format!("SELECT * FROM {table}");
            let rows = tx.prepare(&sql).query_map((), |row| Ok(row.values().to_vec()))?;
            for value in rows.collect::<Result<Vec<_>, _>>()?.into_iter().flatten() {
                match value {
                    db::Value::Text(text) => all.extend_from_slice(text.as_bytes()),
                    db::Value::Blob(bytes) => all.extend_from_slice(&bytes),
                    _ => {}
                }
                all.push(b'\n');
            }
        }
        Ok::<_, otaru_server::db::DbError>(all)
    });
    let kept = String::from_utf8_lossy(&kept.await.unwrap()).into_owned();
    assert!(kept.contains("token.create") && kept.contains("hall"), "it was all read");
    for secret in secrets {
        let tail = &secret[secret.len() - 24..];
        assert!(!kept.contains(tail), "a secret is kept");
    }
}

/// The fields of a body as they are described.
fn described(document: &Value, operation: &Value) -> Option<BTreeSet<String>> {
    let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
    let name = schema["$ref"].as_str()?.strip_prefix("#/components/schemas/")?;
    Some(document["components"]["schemas"][name]["properties"].as_object()?.keys().cloned().collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_have_the_fields_that_are_described() {
    let bench = Bench::start().await;
    bench.post("/devices", json!({"id": "lamp"})).await.is(201);
    let document = serde_json::to_value(otaru_server::api::document()).unwrap();
    let mut compared = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let Some(described) = described(&document, operation) else { continue };
            let path = path.strip_prefix("/api/v1").unwrap().replace("{id}", "1").replace("{device}", "lamp");
            let method: Method = method.to_uppercase().parse().unwrap();
            let answer = bench.ask(Some(&bench.admin), method, &path, Some(json!({"?": 1}))).await;
            let problem = answer.problem(422, "invalid").json();
            // `unknown field `?`, expected one of `a`, `b``
            let (_, expected) = problem["detail"].as_str().unwrap().split_once("expected ").unwrap();
            let taken: BTreeSet<String> = expected.split('`').skip(1).step_by(2).map(str::to_owned).collect();
            assert_eq!(taken, described, "{path}");
            compared += 1;
        }
    }
    assert!(compared >= 10, "{compared}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_description_is_whole() {
    let bench = Bench::start().await;
    let request = Request::get("/api/v1/openapi.json").body(Body::empty()).unwrap();
    let document = bench.send(request).await.is(200).json();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"), "{}", document["openapi"]);
    let mut ids = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            ids.push(operation["operationId"].as_str().unwrap().to_owned());
            assert!(operation["summary"].as_str().is_some_and(|text| !text.is_empty()), "{method} {path}");
            assert!(operation["responses"]["default"].is_object(), "{method} {path} has problems");
            for parameter in path.split('{').skip(1).map(|part| part.split('}').next().unwrap()) {
                let named =
                    operation["parameters"].as_array().unwrap().iter().any(|one| one["name"] == parameter);
                assert!(named, "{method} {path}: {parameter}");
            }
        }
    }
    let count = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), count, "every operation has a name of its own");
    // Every reference leads somewhere.
    let text = document.to_string();
    for reference in text.split("\"$ref\":\"#/components/schemas/").skip(1) {
        let name = reference.split('"').next().unwrap();
        assert!(document["components"]["schemas"][name].is_object(), "{name}");
    }
    let page = |path: &str| Request::get(path).body(Body::empty()).unwrap();
    let found = bench.send(page("/api/docs/")).await.is(200);
    assert!(found.text.contains("swagger"));
    assert_eq!(found.headers["cache-control"], "public, max-age=600", "proxies may keep it a while");
    let missing = bench.send(page("/api/docs/none.js")).await.is(404);
    assert!(missing.headers.get("cache-control").is_none(), "that there is none is kept by nobody");
}
