//! Lists of devices: pages without holes, filters that agree with a plain model, tags, retirement, reports over HTTP.

use std::collections::BTreeSet;

use axum::body::Body;
use axum::http::{Method, Request, header};
use base64::Engine as _;
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Value, json};

use crate::bench::Bench;

type Row = (String, &'static str, &'static str, Vec<(&'static str, &'static str)>);

fn fleet(count: usize, rng: &mut SmallRng) -> Vec<Row> {
    let pick = |rng: &mut SmallRng, all: &[&'static str]| all[rng.random_range(0..all.len())];
    (0..count)
        .map(|number| {
            let mut tags = Vec::new();
            if rng.random_bool(0.5) {
                tags.push(("site", pick(rng, &["berlin", "paris"])));
            }
            if rng.random_bool(0.2) {
                tags.push(("canary", ""));
            }
            let version = pick(rng, &["1.0.0", "1.1.0", "2.0.0-rc.1", "nonsense"]);
            let state = pick(rng, &["idle", "confirmed", "rolled_back"]);
            (format!("dev-{number:x}"), version, state, tags)
        })
        .collect()
}

async fn walk(bench: &Bench, query: &str, limit: usize) -> Vec<Value> {
    let (mut all, mut cursor) = (Vec::new(), None::<String>);
    loop {
        let at = cursor.map(|cursor| format!("&cursor={cursor}")).unwrap_or_default();
        let page = bench.get(&format!("/devices?limit={limit}{query}{at}")).await.is(200).json();
        let items = page["items"].as_array().unwrap();
        assert!(items.len() <= limit);
        all.extend(items.iter().cloned());
        match page["next"].as_str() {
            Some(next) => cursor = Some(next.to_owned()),
            None => return all,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_have_no_holes_and_no_doubles_however_they_are_sorted() {
    let bench = Bench::start().await;
    let mut rng = SmallRng::seed_from_u64(1);
    bench.devices(fleet(1_000, &mut rng)).await;
    for sort in ["id", "label", "version", "state", "last_seen"] {
        for descending in [false, true] {
            let found = walk(&bench, &format!("&sort={sort}&descending={descending}"), 137).await;
            let ids: BTreeSet<&str> = found.iter().map(|device| device["id"].as_str().unwrap()).collect();
            assert_eq!((found.len(), ids.len()), (1_000, 1_000), "{sort} {descending}");
            let keys: Vec<&str> =
                found.iter().map(|device| device[sort].as_str().unwrap_or_default()).collect();
            let sorted =
                keys.windows(2).all(|two| if descending { two[0] >= two[1] } else { two[0] <= two[1] });
            assert!(sorted, "{sort} {descending}");
        }
    }
    let page = bench.get("/devices?limit=1").await.json();
    assert_eq!(page["total"], 1_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_agree_with_a_plain_model() {
    let bench = Bench::start().await;
    let mut rng = SmallRng::seed_from_u64(2);
    let rows = fleet(700, &mut rng);
    bench.devices(rows.clone()).await;
    let tag = |row: &Row, name: &str, value: Option<&str>| {
        row.3.iter().any(|(have, is)| *have == name && value.is_none_or(|value| *is == value))
    };
    type Model<'a> = &'a dyn Fn(&Row) -> bool;
    let cases: [(&str, Model<'_>); 10] = [
        ("&version=1.0.0", &|row| row.1 == "1.0.0"),
        ("&state=rolled_back", &|row| row.2 == "rolled_back"),
        ("&q=EV-1", &|row| row.0.contains("ev-1")),
        ("&tags=site%3Dberlin", &|row| tag(row, "site", Some("berlin"))),
        ("&tags=canary%20and%20not%20site%3Dparis", &|row| {
            tag(row, "canary", None) && !tag(row, "site", Some("paris"))
        }),
        ("&versions=%3E%3D1.1.0", &|row| ["1.1.0", "2.0.0-rc.1"].contains(&row.1)),
        ("&versions=%3C2.0.0&tags=canary", &|row| {
            ["1.0.0", "1.1.0", "2.0.0-rc.1"].contains(&row.1) && tag(row, "canary", None)
        }),
        ("&product=lamp&chip=esp32c3&reachable=true", &|row| row.0.len() % 2 == 1),
        ("&product=clock", &|_| false),
        ("&retired=true", &|_| false),
    ];
    for (query, model) in cases {
        let found = walk(&bench, query, 50).await;
        let found: BTreeSet<String> =
            found.iter().map(|device| device["id"].as_str().unwrap().to_owned()).collect();
        let wanted: BTreeSet<String> =
            rows.iter().filter(|row| model(row)).map(|row| row.0.clone()).collect();
        assert_eq!(found, wanted, "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_are_tagged_at_once_and_a_retired_one_is_gone() {
    let bench = Bench::start().await;
    let mut rng = SmallRng::seed_from_u64(3);
    bench.devices(fleet(50, &mut rng)).await;
    let body = json!({"which": {"state": "idle"}, "set": {"batch": "7"}});
    let changed = bench.post("/devices/tags", body).await.is(200).json();
    let tagged = walk(&bench, "&tags=batch%3D7", 100).await;
    assert_eq!(changed["devices"], tagged.len());
    assert!(!tagged.is_empty() && tagged.iter().all(|device| device["state"] == "idle"));
    bench.post("/devices/tags", json!({"set": {"x": ""}})).await.problem(422, "invalid");
    bench
        .post("/devices/tags", json!({"devices": ["nobody"], "set": {"x": ""}}))
        .await
        .problem(404, "not-found");

    bench.post("/devices/dev-1/retire", json!({})).await.is(200);
    bench.post("/devices/dev-1/retire", json!({})).await.problem(409, "conflict");
    assert_eq!(walk(&bench, "", 100).await.len(), 49);
    assert_eq!(walk(&bench, "&retired=true", 100).await.len(), 1);
    let history = bench.get("/devices/dev-1/history").await.is(200).json();
    assert_eq!(history["items"][0]["kind"], "retired");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_without_a_broker_reports_over_http() {
    let bench = Bench::start().await;
    let added = bench.post("/devices", json!({"id": "lamp"})).await.is(201).json();
    let password = added["password"].as_str().unwrap();
    let report = json!({"device": "lamp", "chip": "esp32c3", "state": "idle", "project": "lamp", "version": "1.0.0",
        "image": "aa".repeat(32), "slot": 0, "confirmed": true, "boot": "power_on", "uptime": 3});
    let send = async |user: &str, password: &str, report: &Value| {
        let login = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
        let request = Request::post("/api/v1/devices/lamp/status")
            .header(header::AUTHORIZATION, format!("Basic {login}"))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(report.to_string()));
        bench.send(request.unwrap()).await
    };
    for _ in 0..2 {
        let orders = send("lamp", password, &report).await.is(200).json();
        assert_eq!(orders["offer"], Value::Null);
    }
    let device = bench.get("/devices/lamp").await.json();
    assert_eq!((&device["version"], &device["reachable"]), (&json!("1.0.0"), &json!(true)));
    let reports = bench.get("/devices/lamp/history").await.json();
    let reports =
        reports["items"].as_array().unwrap().iter().filter(|event| event["kind"] == "report").count();
    assert_eq!(reports, 1, "the same report twice is one");
    send("lamp", "wrong", &report).await.problem(401, "unauthorized");
    send("hall", password, &report).await.problem(401, "unauthorized");
    let mut other = report.clone();
    other["device"] = json!("hall");
    send("lamp", password, &other).await.problem(422, "invalid");
    // Somebody with a token may report for it.
    let viewer = bench.token("viewer").await;
    let path = "/devices/lamp/status";
    bench.ask(Some(&viewer), Method::POST, path, Some(report.clone())).await.problem(403, "forbidden");
    bench.post(path, report).await.is(200);
}
