//! Lists of devices: pages without holes, filters that agree with a plain model, tags, retirement, reports over HTTP.

use std::collections::BTreeSet;

use axum::body::Body;
use axum::http::{Method, Request, header};
use base64::Engine as _;
use otaru_rollout::DeviceId;
use otaru_server::reconcile::{self, Came};
use otaru_server::statement_params as params;
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Value, json};

use crate::bench::{Bench, Facts as Row};

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

/// What follows such a character is shown from right to left: `x\u{202E}nib.exe` as `xexe.bin`.
#[tokio::test(flavor = "multi_thread")]
async fn no_name_turns_the_direction_of_writing() {
    let bench = Bench::start().await;
    bench.devices(fleet(2, &mut SmallRng::seed_from_u64(1))).await;
    let key = bench.fleet_key(json!({})).await;
    let change_it = async |change: Value| {
        bench.ask(Some(&bench.admin), Method::PATCH, "/devices/dev-1", Some(change)).await
    };
    for turns in ["x\u{202e}nib.exe", "\u{2066}x", "x\u{200f}"] {
        bench.claim(turns, &key).await.problem(422, "invalid");
        bench.post("/devices", json!({"id": turns})).await.problem(422, "invalid");
        bench.post("/tokens", json!({"name": turns, "role": "viewer"})).await.problem(422, "invalid");
        bench.post("/fleet-keys", json!({"name": turns})).await.problem(422, "invalid");
        for change in
            [json!({"label": turns}), json!({"tags": {turns: ""}}), json!({"tags": {"site": turns}})]
        {
            change_it(change).await.problem(422, "invalid");
        }
    }
    bench.claim("x\u{200b}", &key).await.problem(422, "invalid");
    // Nor has one nothing that can be seen.
    for blank in ["\u{200b}", "\u{2060}\u{feff}", "\u{3164}"] {
        change_it(json!({"label": blank})).await.problem(422, "invalid");
        change_it(json!({"tags": {blank: ""}})).await.problem(422, "invalid");
        bench.post("/tokens", json!({"name": blank, "role": "viewer"})).await.problem(422, "invalid");
    }
    // What an earlier version let in reports, can be looked at, and retired.
    bench.devices(vec![("old\u{202e}x".into(), "1.0.0", "idle", vec![])]).await;
    let report = json!({
        "device": "old\u{202e}x", "chip": "esp32c3", "state": "idle", "project": "lamp", "version": "1.0.0",
        "image": "0".repeat(64), "slot": 0, "confirmed": true, "boot": "power_on", "uptime": 1,
    });
    bench.post("/devices/old%E2%80%AEx/status", report).await.is(200);
    assert_eq!(bench.get("/devices/old%E2%80%AEx").await.is(200).json()["reachable"], true);
    bench.post("/devices/old%E2%80%AEx/retire", json!({})).await.is(200);
    // Letters of right-to-left languages are letters, and families are of several people.
    let label = json!({"label": "\u{5de}\u{5d8}\u{5d1}\u{5d7} \u{1f469}\u{200d}\u{1f466}"});
    change_it(label).await.is(200);
}

/// Its connection at a broker of one's own may have stayed: what it said before is what it says again.
#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_is_taken_back_is_there_from_its_next_report_on() {
    let bench = Bench::start().await;
    bench.devices(vec![("lamp".into(), "1.0.0", "idle", vec![])]).await;
    let (app, lamp) = (bench.server.app(), DeviceId::from("lamp"));
    let report = || {
        let report = json!({
            "device": "lamp", "chip": "esp32c3", "state": "idle", "project": "lamp", "version": "1.0.0",
            "image": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "slot": 0, "confirmed": true,
            "boot": "power_on", "uptime": 1,
        });
        let report = otaru_server::reconcile::report::read(report.to_string().as_bytes()).unwrap();
        reconcile::take_report(app, &lamp, report, false, Came::Live)
    };
    let is_there = async || bench.get("/devices/lamp").await.is(200).json()["reachable"] == true;
    report().await.unwrap();
    assert!(is_there().await);
    bench.post("/devices/lamp/retire", json!({})).await.is(200);
    report().await.unwrap();
    bench.post("/devices/lamp/unretire", json!({})).await.is(200);
    assert!(!is_there().await);
    report().await.unwrap();
    assert!(is_there().await);
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
    // A condition that is misspelt, or that a script had nothing for, is not left out: that would be all devices.
    for blank in ["tags", "product", "q"] {
        let body = json!({"which": {blank: " "}, "set": {"x": ""}});
        let problem = bench.post("/devices/tags", body).await;
        assert!(problem.text.contains("is empty"), "{}", problem.text);
        problem.problem(422, "invalid");
    }
    let misspelt = json!({"which": {"stat": "idle"}, "set": {"x": ""}});
    bench.post("/devices/tags", misspelt).await.problem(422, "invalid");
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

    // Whatever is tried with it says the same, and what undoes it.
    for (path, body) in [
        ("/devices/dev-1/retire", json!({})),
        ("/devices/dev-1/password", json!({})),
        ("/devices/tags", json!({"devices": ["dev-1"], "set": {"x": ""}})),
        ("/devices", json!({"id": "dev-1"})),
    ] {
        let answer = bench.post(path, body).await.problem(409, "conflict");
        assert!(
            answer.text.contains("dev-1 is retired; `otaru devices unretire dev-1` (`POST /devices/dev-1/unretire`) takes it back"),
            "{answer:?}"
        );
    }
    bench.post("/devices/dev-1/unretire", json!({})).await.is(200);
    bench.post("/devices/dev-1/unretire", json!({})).await.problem(409, "conflict");
    bench.post("/devices/nobody/unretire", json!({})).await.problem(404, "not-found");
    assert_eq!(walk(&bench, "", 100).await.len(), 50);
    let history = bench.get("/devices/dev-1/history").await.is(200).json();
    assert_eq!(history["items"][0]["kind"], "unretired");
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

/// A device as the model has it.
#[derive(Debug, Clone, PartialEq)]
struct Known {
    id: String,
    label: Option<String>,
    product: &'static str,
    version: &'static str,
    chip: &'static str,
    state: &'static str,
    error: Option<&'static str>,
    image: u8,
    reachable: bool,
    seen: i64,
    tags: Vec<(&'static str, &'static str)>,
    standing: Option<&'static str>,
}

const PRODUCTS: [&str; 2] = ["lamp", "clock"];
const VERSIONS: [&str; 5] = ["1.0.0", "1.2.0", "1.10.0", "2.0.0-rc.1", "nonsense"];
const CHIPS: [&str; 2] = ["esp32", "esp32c3"];
const STATES: [&str; 3] = ["idle", "confirmed", "rolled_back"];
const ERRORS: [&str; 2] = ["panic", "no_room"];
const STANDINGS: [&str; 3] = ["ready", "succeeded", "failed"];

fn pick<T: Copy>(rng: &mut SmallRng, all: &[T]) -> T {
    all[rng.random_range(0..all.len())]
}

fn maybe<T: Copy>(rng: &mut SmallRng, all: &[T]) -> Option<T> {
    rng.random_bool(0.4).then(|| pick(rng, all))
}

impl Known {
    fn random(number: usize, rng: &mut SmallRng) -> Self {
        Self {
            id: format!("d{:x}", number * 7919 % 1009),
            label: maybe(rng, &["Hall", "hall 2", "Küche", "%", "_"]).map(str::to_owned),
            product: pick(rng, &PRODUCTS),
            version: pick(rng, &VERSIONS),
            chip: pick(rng, &CHIPS),
            state: pick(rng, &STATES),
            error: maybe(rng, &ERRORS),
            image: rng.random_range(0..3),
            reachable: rng.random(),
            seen: rng.random_range(0..5),
            tags: [maybe(rng, &[("site", "berlin"), ("site", "paris")]), maybe(rng, &[("canary", "")])]
                .into_iter()
                .flatten()
                .collect(),
            standing: maybe(rng, &STANDINGS),
        }
    }

    fn tag(&self, name: &str) -> Option<&str> {
        self.tags.iter().find(|(have, _)| *have == name).map(|(_, value)| *value)
    }
}

async fn put(bench: &Bench, devices: Vec<Known>) {
    let write = bench.server.app().db.write(move |tx| {
        tx.execute_batch(
            "INSERT INTO rollouts (id, name, state, phase, is_open, is_alive, created_at, created_by, updated_at)
             VALUES (5, 'x', '{}', 'aborted', FALSE, FALSE, 1, 'x', 1);",
        )?;
        for device in &devices {
            tx.execute(
                "INSERT INTO devices (id, label, first_seen, last_seen, reachable, chip, product, version, image, state, error_code)
                 VALUES (?, ?, 1, nullif(CAST(? AS BIGINT), 0), ?, ?, ?, ?, ?, ?, ?)",
                params![device.id, device.label, device.seen, device.reachable, device.chip, device.product,
                    device.version, [device.image; 32], device.state, device.error],
            )?;
            for (name, value) in &device.tags {
                tx.execute("INSERT INTO device_tags VALUES (?, ?, ?)", [device.id.as_str(), name, value])?;
            }
            if let Some(standing) = device.standing {
                tx.execute(
                    "INSERT INTO deployments (rollout, device, state, standing, is_open, wave, starts, position, created_at, updated_at)
                     VALUES (5, ?, '{}', ?, FALSE, 0, 0, 0, 1, 1)",
                    [device.id.as_str(), standing],
                )?;
            }
        }
        Ok::<_, otaru_server::db::DbError>(())
    });
    write.await.unwrap();
}

type Condition = (String, Box<dyn Fn(&Known) -> bool>);

/// A condition as it stands in a query, and what it means.
fn condition(rng: &mut SmallRng) -> Condition {
    match rng.random_range(0..13) {
        0 => {
            let (text, plain) = pick(
                rng,
                &[
                    ("HALL", "hall"),
                    ("d1", "d1"),
                    ("%25", "%"),
                    ("_", "_"),
                    ("%5C", "\\"),
                    ("%00", "\0"),
                    ("K%C3%BCche", "küche"),
                ],
            );
            let has = move |text: &str| text.to_ascii_lowercase().contains(&plain.to_lowercase());
            (
                format!("q={text}"),
                Box::new(move |device| has(&device.id) || device.label.as_deref().is_some_and(has)),
            )
        }
        1 => {
            let wanted = pick(rng, &PRODUCTS);
            (format!("product={wanted}"), Box::new(move |device| device.product == wanted))
        }
        2 => {
            let wanted = pick(rng, &VERSIONS);
            (format!("version={wanted}"), Box::new(move |device| device.version == wanted))
        }
        3 => {
            let wanted = pick(rng, &CHIPS);
            (format!("chip={wanted}"), Box::new(move |device| device.chip == wanted))
        }
        4 => {
            let wanted = pick(rng, &STATES);
            (format!("state={wanted}"), Box::new(move |device| device.state == wanted))
        }
        5 => {
            let wanted = pick(rng, &ERRORS);
            (format!("error={wanted}"), Box::new(move |device| device.error == Some(wanted)))
        }
        6 => {
            let wanted: u8 = rng.random_range(0..3);
            (
                format!("image={}", format!("{wanted:02x}").repeat(32)),
                Box::new(move |device| device.image == wanted),
            )
        }
        7 => {
            let wanted: bool = rng.random();
            (format!("reachable={wanted}"), Box::new(move |device| device.reachable == wanted))
        }
        12 => {
            let wanted = pick(rng, &["well", "updating", "troubled", "away"]);
            let is = |device: &Known| match (device.state, device.reachable) {
                ("rolled_back" | "failed" | "refused", _) => "troubled",
                (_, false) => "away",
                ("idle" | "confirmed", true) => "well",
                (_, true) => "updating",
            };
            (format!("health={wanted}"), Box::new(move |device| is(device) == wanted))
        }
        8 => ("rollout=5".into(), Box::new(|device| device.standing.is_some())),
        9 => {
            let wanted = pick(rng, &STANDINGS);
            (format!("rollout=5&standing={wanted}"), Box::new(move |device| device.standing == Some(wanted)))
        }
        10 => (
            "versions=%3E%3D1.2.0%2C%20%3C2.0.0".into(),
            Box::new(|device| ["1.2.0", "1.10.0", "2.0.0-rc.1"].contains(&device.version)),
        ),
        _ => {
            type Fits = fn(&Known) -> bool;
            let fitting: [(&str, Fits); 5] = [
                ("site%3Dberlin%20or%20canary", |device| {
                    device.tag("site") == Some("berlin") || device.tag("canary").is_some()
                }),
                ("not%20site", |device| device.tag("site").is_none()),
                ("site", |device| device.tag("site").is_some()),
                ("canary%20and%20site%3Dberlin", |device| {
                    device.tag("site") == Some("berlin") && device.tag("canary").is_some()
                }),
                ("site%20in%20(berlin%2C%20paris%2C%20rome)%20and%20not%20canary", |device| {
                    matches!(device.tag("site"), Some("berlin" | "paris" | "rome"))
                        && device.tag("canary").is_none()
                }),
            ];
            let (text, fits) = fitting[rng.random_range(0..fitting.len())];
            (format!("tags={text}"), Box::new(fits))
        }
    }
}

/// Returns the sort key of a device; texts are compared byte by byte.
fn sorted_by(sort: &str, device: &Known) -> (i64, String, String) {
    let text = match sort {
        "label" => device.label.as_deref().unwrap_or(&device.id),
        "version" => device.version,
        "state" => device.state,
        "last_seen" => return (device.seen, String::new(), device.id.clone()),
        _ => "",
    };
    (0, text.to_owned(), device.id.clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn any_filter_and_order_agree_with_a_plain_model() {
    for seed in 10..13 {
        let bench = Bench::start().await;
        let mut rng = SmallRng::seed_from_u64(seed);
        let fleet: Vec<Known> = (0..300).map(|number| Known::random(number, &mut rng)).collect();
        put(&bench, fleet.clone()).await;
        let mut found_some = 0;
        for _ in 0..60 {
            let conditions: Vec<Condition> = {
                // One of each kind at most: a query has each name once.
                let mut all: Vec<Condition> = Vec::new();
                for _ in 0..rng.random_range(0..4) {
                    let one = condition(&mut rng);
                    let kind = |text: &str| text.split('=').next().unwrap_or_default().to_owned();
                    if all.iter().all(|(other, _)| kind(other) != kind(&one.0)) {
                        all.push(one);
                    }
                }
                all
            };
            let sort = pick(&mut rng, &["id", "label", "version", "state", "last_seen"]);
            let descending: bool = rng.random();
            let mut wanted: Vec<&Known> =
                fleet.iter().filter(|device| conditions.iter().all(|(_, fits)| fits(device))).collect();
            wanted.sort_by_key(|device| sorted_by(sort, device));
            if descending {
                wanted.reverse();
            }
            let texts: Vec<&str> = conditions.iter().map(|(text, _)| text.as_str()).collect();
            let query = format!("&{}&sort={sort}&descending={descending}", texts.join("&"));
            let query = query.replace("&&", "&");
            let limit = pick(&mut rng, &[1, 7, 100, 1_000]);
            let found = walk(&bench, &query, limit).await;
            let ids = |device: &Value| device["id"].as_str().unwrap().to_owned();
            let found: Vec<String> = found.iter().map(ids).collect();
            let wanted: Vec<String> = wanted.iter().map(|device| device.id.clone()).collect();
            assert_eq!(found, wanted, "seed {seed}: {query} in pages of {limit}");
            found_some += u32::from(!found.is_empty());
        }
        assert!(found_some > 30, "seed {seed}: most filters find some: {found_some}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn how_a_device_is_takes_one_word() {
    let bench = Bench::start().await;
    // Those with an id of odd length can be reached.
    let devices = [
        ("a", "idle"),
        ("bb", "idle"),
        ("c", "downloading"),
        ("dd", "trial"),
        ("ee", "rolled_back"),
        ("f", "failed"),
    ];
    let facts = devices.map(|(id, state)| (id.to_owned(), "1.0.0", state, vec![]));
    bench.devices(facts.to_vec()).await;
    for (health, ids) in
        [("well", &["a"][..]), ("updating", &["c"]), ("troubled", &["ee", "f"]), ("away", &["bb", "dd"])]
    {
        let found = bench.get(&format!("/devices?health={health}")).await.is(200).json();
        let found: Vec<_> =
            found["items"].as_array().unwrap().iter().map(|device| device["id"].clone()).collect();
        assert_eq!(found, ids, "{health}");
    }
    let fleet = bench.get("/fleet").await.json();
    assert_eq!(fleet["health"], json!({"well": 1, "updating": 1, "troubled": 2, "away": 2}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_that_no_device_can_have_finds_none() {
    let bench = Bench::start().await;
    bench.devices(fleet(10, &mut SmallRng::seed_from_u64(3))).await;
    let long = "%25".repeat(10_000);
    for text in ["%00", "dev%00", "%00dev", "%25", "%5C", long.as_str()] {
        for more in ["", "&sort=label"] {
            let found = bench.get(&format!("/devices?q={text}{more}")).await.is(200).json();
            assert_eq!((&found["items"], &found["total"]), (&json!([]), &json!(0)), "{text:.20}{more}");
        }
    }
    for (name, status) in [("product", 200), ("version", 200), ("chip", 200), ("state", 422), ("error", 422)]
    {
        let answer = bench.get(&format!("/devices?{name}=%00")).await.is(status).json();
        assert!(answer["items"].as_array().is_none_or(Vec::is_empty), "{name}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_in_one_order_is_none_in_another() {
    let bench = Bench::start().await;
    bench.devices(fleet(10, &mut SmallRng::seed_from_u64(2))).await;
    let orders: Vec<String> = ["id", "label", "version", "state", "last_seen"]
        .iter()
        .flat_map(|sort| ["false", "true"].map(|down| format!("sort={sort}&descending={down}")))
        .collect();
    for one in &orders {
        let page = bench.get(&format!("/devices?limit=3&{one}")).await.is(200).json();
        let next = page["next"].as_str().unwrap();
        for other in &orders {
            let expected = if one == other { 200 } else { 422 };
            bench.get(&format!("/devices?{other}&cursor={next}")).await.is(expected);
        }
    }
    // Made up: of this order, with a value of another kind.
    let hex = |text: &str| text.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
    for (order, place) in
        [("sort=label", r#"["label",false,1,"a"]"#), ("sort=last_seen", r#"["last_seen",false,"a","a"]"#)]
    {
        bench.get(&format!("/devices?{order}&cursor={}", hex(place))).await.is(422);
    }
}
