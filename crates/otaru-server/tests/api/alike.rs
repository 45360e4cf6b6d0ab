//! Firmware that calls itself the same in every build, as Arduino's does: how releases and devices are told apart all the same.

use axum::body::Body;
use axum::http::{Method, Request, header};
use otaru_format::chip::Chip;
use otaru_format::digest::Digest;
use otaru_format::image::{DescriptorFields, ImageFields};
use otaru_release::build::{Options, build};
use otaru_release::keys::SecretKey;
use otaru_server::clock::Clock;
use serde_json::{Value, json};

use crate::bench::{Answer, Bench, LIMIT};

const PROJECT: &str = "arduino-lib-builder";
const VERSION: &str = "esp-idf: v4.4.3 6407ecb3f8";

/// Firmware made with Arduino; builds differ in their code only.
fn arduino(build: u32) -> Vec<u8> {
    image(PROJECT, VERSION, build)
}

fn image(project: &str, version: &str, build: u32) -> Vec<u8> {
    let descriptor = DescriptorFields { project, version, secure_version: 0, elf_sha256: Digest::ZERO };
    let code: Vec<u8> = (0..500_u32).flat_map(|n| (n * build).to_le_bytes()).collect();
    let segments = &[(0x3C00_0020, &[][..]), (0x4200_0020, &code)];
    ImageFields { chip: Chip::Esp32C3, descriptor, segments, hash_appended: false }.emit()
}

/// The same for a flash of so many MiB: the header's upper nibble is the exponent.
fn for_flash(mut image: Vec<u8>, exponent: u8) -> Vec<u8> {
    image[3] = exponent << 4;
    image
}

fn short(image: &[u8]) -> String {
    Digest::of(image).to_string()[..8].to_owned()
}

impl Bench {
    async fn uploads(&self, bytes: &[u8], query: &str) -> Answer {
        let request = Request::post(format!("/api/v1/releases?{query}"))
            .header(header::AUTHORIZATION, format!("Bearer {}", self.admin))
            .body(Body::from(bytes.to_vec()));
        self.send(request.unwrap()).await
    }

    /// The release that was made of it, with the remarks.
    async fn uploaded(&self, bytes: &[u8], query: &str) -> Value {
        let answer = self.uploads(bytes, query).await;
        assert!(answer.status.is_success(), "{answer:?}");
        answer.json()
    }

    /// A device reports what it runs, in the image's own words.
    async fn runs(&self, device: &str, image: &[u8], more: Value) {
        let mut report = json!({"device": device, "chip": "esp32c3", "state": "idle", "project": PROJECT, "product": "wled",
            "version": VERSION, "image": Digest::of(image).to_string(), "slot": 0, "confirmed": true, "boot": "power_on",
            "uptime": 3});
        report.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.post(&format!("/devices/{device}/status"), report).await.is(200);
    }

    async fn page_of(&self, path: &str) -> String {
        let cookie = self.log_in(&self.admin).await;
        let request = Request::get(path).header(header::COOKIE, cookie).body(Body::empty());
        self.send(request.unwrap()).await.is(200).text
    }

    async fn value(&self, path: &str) -> Value {
        self.get(path).await.is(200).json()
    }

    /// Waits until the first rollout has a device.
    async fn admitted(&self) {
        let end = std::time::Instant::now() + LIMIT;
        while self.value("/rollouts/1/deployments").await["items"].as_array().unwrap().is_empty() {
            assert!(std::time::Instant::now() < end, "it is admitted soon");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    /// Waits until a release has its file.
    async fn made_file(&self, id: &Value) -> Value {
        let end = std::time::Instant::now() + LIMIT;
        loop {
            let release = self.value(&format!("/releases/{id}")).await;
            if release["job"]["state"] == "done" {
                return release;
            }
            assert!(std::time::Instant::now() < end, "{release}");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }
}

fn remarks(uploaded: &Value) -> String {
    uploaded["remarks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|text| text.as_str().unwrap())
        .collect::<Vec<_>>()
        .join("\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_device_runs_is_called_as_its_release_everywhere() {
    let bench = Bench::start().await;
    let (old, new) = (arduino(1), arduino(2));
    for device in ["a", "b"] {
        bench.post("/devices", json!({"id": device})).await.is(201);
        bench.runs(device, &old, json!({})).await;
    }
    assert_eq!(bench.value("/devices/a").await["version"], VERSION, "nothing is known of it yet");
    // It becomes a release after it was reported.
    bench.uploaded(&old, "product=wled&version=0.14.3").await;
    let device = bench.value("/devices/a").await;
    assert_eq!((&device["version"], &device["image_short"]), (&json!("0.14.3"), &json!(short(&old))));
    assert_eq!(device["report"]["version"], VERSION, "its report stays as it sent it");
    let release = bench.uploaded(&new, "product=wled&version=0.14.4").await;
    bench.made_file(&release["id"]).await;
    let target = json!({"devices": ["a"]});
    bench.post("/rollouts", json!({"name": "x", "release": release["id"], "target": target})).await.is(201);
    bench.admitted().await;
    bench.runs("a", &old, json!({"state": "downloading", "deployment": "r1.1"})).await;
    bench.runs("a", &new, json!({"state": "confirmed"})).await;
    for (query, wanted) in [("version=0.14.4", "a"), ("versions=%3C0.14.4", "b")] {
        let found = bench.value(&format!("/devices?{query}")).await;
        let ids: Vec<&Value> =
            found["items"].as_array().unwrap().iter().map(|device| &device["id"]).collect();
        assert_eq!(ids, [wanted], "{query}");
    }
    let fleet = bench.value("/fleet").await;
    let versions = fleet["versions"].as_array().unwrap();
    assert_eq!((&versions[0]["version"], &versions[1]["version"]), (&json!("0.14.3"), &json!("0.14.4")));
    let history = bench.value("/devices/a/history").await.to_string();
    assert!(!history.contains("esp-idf"), "{history}");
    let page = bench.page_of("/devices/a").await;
    assert!(page.contains("confirmed 0.14.4") && page.contains("downloading 0.14.4 (runs 0.14.3)"), "{page}");
    // A rollout for versions means the releases' versions.
    let target = json!({"versions": "<0.14.4"});
    let body = json!({"name": "x", "release": release["id"], "target": target});
    let preview = bench.post("/rollouts/preview", body).await.is(200).json();
    assert_eq!((&preview["devices"], &preview["some"]), (&json!(1), &json!(["b"])));
    // Whoever asks for it is told only that there are enough.
    let body = json!({"name": "x", "release": release["id"]});
    for (query, devices) in [("", 2), ("?enough=9", 2), ("?enough=1", 1), ("?enough=0", 1)] {
        let preview = bench.post(&format!("/rollouts/preview{query}"), body.clone()).await.is(200).json();
        assert_eq!(preview["devices"], devices, "{query}: {preview}");
    }
    bench.post("/rollouts/preview?enough=many", body).await.is(422);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_builds_that_are_called_alike_are_told_apart_and_hinted_at() {
    let bench = Bench::start().await;
    let (one, two) = (arduino(1), arduino(2));
    let first = bench.uploaded(&one, "filename=WLED_0.14.3_ESP32-C3.bin").await;
    let hint = remarks(&first);
    assert!(
        hint.contains("framework") && hint.contains("--version") && hint.contains("Config::product"),
        "{hint}"
    );
    assert_eq!(first["title"], format!("{PROJECT} {VERSION}"), "alone, it looks like no other");
    let long = "x".repeat(5_000);
    let second = bench.uploaded(&two, &format!("filename={long}.bin")).await;
    assert!(remarks(&second).contains(&format!("release {} of", first["id"])), "{}", remarks(&second));
    assert!(remarks(&second).contains(&short(&one)) && remarks(&second).contains(&short(&two)));
    assert!(second["filename"].as_str().unwrap().len() <= 100, "{second}");
    let listed = bench.value("/releases").await;
    let titles: Vec<&str> = listed["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|release| release["title"].as_str().unwrap())
        .collect();
    assert_eq!(
        titles,
        [format!("{PROJECT} {VERSION} ({})", short(&two)), format!("{PROJECT} {VERSION} ({})", short(&one))]
    );
    let page = bench.page_of("/releases").await;
    for text in [&*short(&one), &*short(&two), "WLED_0.14.3_ESP32-C3.bin"] {
        assert!(page.contains(text), "{text} in {page}");
    }
    assert!(bench.page_of("/rollouts/new").await.contains("WLED_0.14.3_ESP32-C3.bin"));
    for (device, image) in [("a", &one), ("b", &two)] {
        bench.post("/devices", json!({"id": device})).await.is(201);
        bench.runs(device, image, json!({"product": PROJECT})).await;
    }
    let fleet = bench.value("/fleet").await;
    let versions = fleet["versions"].as_array().unwrap();
    assert_eq!(versions.len(), 2, "{fleet}");
    assert!(versions.iter().all(|count| count["devices"] == 1 && count["image"].is_string()), "{fleet}");
    assert!(bench.page_of("/").await.contains(&format!("({})", short(&two))));
    let body = json!({"name": "x", "release": second["id"], "target": {"devices": ["a"]}});
    let preview = bench.post("/rollouts/preview", body.clone()).await.is(200).json();
    assert_eq!(preview["release"]["image_short"], short(&two), "{preview}");
    let rollout = bench.post("/rollouts", body).await.is(201).json();
    assert_eq!(rollout["release"]["title"], titles[0], "{rollout}");
    assert!(bench.page_of(&format!("/rollouts/{}", rollout["id"])).await.contains(&short(&two)));
    bench.admitted().await;
    bench.runs("a", &one, json!({"product": PROJECT, "state": "downloading", "deployment": "r1.1"})).await;
    let page = bench.page_of("/devices/a").await;
    assert!(page.contains(&format!("{} (runs {})", short(&two), short(&one))), "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_file_again_can_be_called_otherwise() {
    let bench = Bench::start().await;
    let file = arduino(1);
    let first = bench.uploaded(&file, "").await;
    bench.post("/devices", json!({"id": "a"})).await.is(201);
    bench.runs("a", &file, json!({})).await;
    let again = bench.uploads(&file, "version=0.14.3&filename=w.bin").await.is(200).json();
    assert_eq!(
        (&again["id"], &again["version"], &again["filename"]),
        (&first["id"], &json!("0.14.3"), &json!("w.bin"))
    );
    assert_eq!(bench.value("/devices/a").await["version"], "0.14.3");
    // Without a name, it keeps the one it has.
    let again = bench.uploaded(&file, "").await;
    assert_eq!((&again["version"], &again["filename"]), (&json!("0.14.3"), &json!("w.bin")));
    for bad in ["version=%07", "product=a%0Ab", &format!("version={}", "v".repeat(33))] {
        bench.uploads(&file, bad).await.problem(422, "invalid");
    }
    // What somebody else signed cannot be called otherwise here.
    let key = SecretKey::from_seed(&[7; 32]);
    let named = Options { product: Some("wled".into()), version: Some("0.14.4".into()), ..Options::new(7) };
    let signed = build(&arduino(2), &named, &mut |_| {}).unwrap().sign(&key).unwrap();
    let refused = bench.uploads(&signed, "version=1.0.0").await.problem(422, "bad-firmware");
    assert!(refused.text.contains("otaru release IMAGE.bin --version"), "{refused:?}");
    let release = bench.uploaded(&signed, "version=0.14.4").await;
    assert_eq!((&release["product"], &release["version"]), (&json!("wled"), &json!("0.14.4")));
    let refused = bench.uploads(&arduino(2), "version=2.0.0").await.problem(409, "conflict");
    assert!(refused.text.contains("signed elsewhere"), "{refused:?}");
    // Over the image's own words, those of a release file count, whichever comes first.
    let bare = bench.uploaded(&arduino(3), "").await;
    let named = Options { product: Some("wled".into()), version: Some("0.14.5".into()), ..Options::new(8) };
    let signed = build(&arduino(3), &named, &mut |_| {}).unwrap().sign(&key).unwrap();
    let release = bench.uploaded(&signed, "").await;
    assert_eq!(
        (&release["id"], &release["product"], &release["version"]),
        (&bare["id"], &json!("wled"), &json!("0.14.5"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_product_of_its_own_comes_in_a_release_file_and_names_the_setting() {
    let bench = Bench::start().await;
    let release = bench.uploaded(&arduino(1), "product=wled&version=0.14.3").await;
    let said = remarks(&release);
    assert!(said.contains("Config::product") && said.contains("\"wled\""), "{said}");
    assert!(!said.contains("framework"), "it has names of its own: {said}");
    // Without a key it is not signed; as a bare image, no device of the product would take it.
    let release = bench.made_file(&release["id"]).await;
    assert!(release["file"].is_string() && release["signed_by"].is_null(), "{release}");
    // Another name, another file.
    let again = bench.uploaded(&arduino(1), "version=0.14.3-1").await;
    let again = bench.made_file(&again["id"]).await;
    assert_eq!(again["version"], "0.14.3-1");
    assert_ne!(again["file"], release["file"], "the manifest has it, too");
    // What is called by its own name stays a bare image.
    let bare = bench.uploaded(&arduino(2), "version=0.14.4").await;
    assert!(bare["file"].is_null() && bare["job"].is_null(), "{bare}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_takes_names_before_and_after_its_file() {
    let bench = Bench::start().await;
    let cookie = bench.log_in(&bench.admin).await;
    for (number, file_first) in [(1, true), (2, false)] {
        let part = |name: &str, text: &str| {
            format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{text}\r\n").into_bytes()
        };
        let mut file =
            b"--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"w.bin\"\r\n\r\n".to_vec();
        file.extend(arduino(number));
        file.extend(b"\r\n");
        let names = [part("version", &format!("0.{number}.0")), part("product", "")].concat();
        let parts = if file_first { [file, names] } else { [names, file] };
        let body = [parts.concat(), b"--b--\r\n".to_vec()].concat();
        let request = Request::post("/releases")
            .header(header::COOKIE, &cookie)
            .header("sec-fetch-site", "same-origin")
            .header(header::CONTENT_TYPE, "multipart/form-data; boundary=b")
            .body(Body::from(body));
        bench.send(request.unwrap()).await.is(303);
        let release = bench.value(&format!("/releases/{number}")).await;
        assert_eq!(
            (&release["version"], &release["filename"]),
            (&json!(format!("0.{number}.0")), &json!("w.bin"))
        );
        assert_eq!(release["product"], PROJECT);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_refused_for_the_board_is_known_to_refuse_more() {
    let bench = Bench::start().await;
    let (running, large, larger, small) = (
        image("lamp", "1.0.0", 1),
        for_flash(image("lamp", "1.1.0", 2), 3),
        for_flash(image("lamp", "1.2.0", 3), 4),
        for_flash(image("lamp", "1.3.0", 4), 1),
    );
    let report = |state: &str, more: Value| {
        let mut report = json!({"product": "lamp", "project": "lamp", "version": "1.0.0", "state": state});
        report.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        report
    };
    for device in ["a", "b"] {
        bench.post("/devices", json!({"id": device})).await.is(201);
        bench.runs(device, &running, report("idle", json!({}))).await;
    }
    let release = bench.uploaded(&large, "").await;
    assert_eq!(release["needs"]["flash_size"], 8 << 20, "{release}");
    assert_eq!(remarks(&release), "", "nothing is known of anybody");
    let body = json!({"name": "x", "release": release["id"], "target": {"devices": ["a"]}});
    bench.post("/rollouts", body).await.is(201);
    let end = std::time::Instant::now() + LIMIT;
    while bench.value("/rollouts/1/deployments?standing=active").await["items"].as_array().unwrap().is_empty()
    {
        bench.runs("a", &running, report("idle", json!({"rssi": -50}))).await;
        assert!(std::time::Instant::now() < end);
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let error = json!({"code": "flash_too_small", "detail": "this one has 4096 KiB"});
    bench.runs("a", &running, report("refused", json!({"deployment": "r1.1", "error": error}))).await;

    let release = bench.uploaded(&larger, "").await;
    assert!(remarks(&release).contains("a (flash_too_small)"), "{}", remarks(&release));
    let all = |id: &Value| json!({"name": "x", "release": id, "target": {"product": "lamp"}});
    let preview = bench.post("/rollouts/preview", all(&release["id"])).await.is(200).json();
    let refusal = &preview["refusals"][0];
    assert_eq!(
        (&refusal["code"], &refusal["devices"], &refusal["some"]),
        (&json!("flash_too_small"), &json!(1), &json!(["a"]))
    );
    let query = format!("/rollouts/new?release={}", release["id"]);
    assert!(bench.page_of(&query).await.contains("flash too small"), "the form says so as well");
    let release = bench.uploaded(&small, "").await;
    assert_eq!(remarks(&release), "");
    let preview = bench.post("/rollouts/preview", all(&release["id"])).await.is(200).json();
    assert_eq!(preview["refusals"], json!([]), "{preview}");
    // Other products and chips are known from reports.
    let other = bench.uploaded(&image("bell", "1.0.0", 9), "").await;
    let preview =
        bench.post("/rollouts/preview", json!({"name": "x", "release": other["id"]})).await.is(200).json();
    assert_eq!(
        (&preview["refusals"][0]["code"], &preview["refusals"][0]["devices"]),
        (&json!("wrong_product"), &json!(2))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_says_what_making_it_would_say() {
    let bench = Bench::start_at(|_| {}, Clock::system()).await;
    let (old, new) = (image("lamp", "1.0.0", 1), image("lamp", "1.1.0", 2));
    let names = |version: &str| json!({"product": "lamp", "project": "lamp", "version": version});
    bench.post("/devices", json!({"id": "a"})).await.is(201);
    bench.runs("a", &old, names("1.0.0")).await;
    let key = SecretKey::from_seed(&[7; 32]);
    let signed = |image: &[u8], sequence| {
        build(image, &Options::new(sequence), &mut |_| {}).unwrap().sign(&key).unwrap()
    };
    let release = bench.uploaded(&signed(&new, 200), "").await;
    bench.post("/rollouts", json!({"name": "x", "release": release["id"]})).await.is(201);
    let end = std::time::Instant::now() + LIMIT;
    while bench.value("/rollouts/1/deployments?standing=active").await["items"].as_array().unwrap().is_empty()
    {
        let mut more = names("1.0.0");
        more["rssi"] = json!(-50);
        bench.runs("a", &old, more).await;
        assert!(std::time::Instant::now() < end);
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let mut confirmed = names("1.1.0");
    confirmed["state"] = json!("confirmed");
    bench.runs("a", &new, confirmed).await;
    let undo = json!({"name": "back", "undo": 1});
    let same = async |kind: &str| {
        let preview = bench.post("/rollouts/preview", undo.clone()).await.is(200).json();
        let made = bench.post("/rollouts", undo.clone()).await.problem(409, kind).json();
        assert_eq!(preview["problem"], made, "{kind}");
        assert_eq!(preview["devices"], 1, "who would be hit is told all the same: {preview}");
        assert!(bench.page_of("/rollouts/new?undo=1").await.contains("role=\"alert\""));
    };
    same("no-file").await;
    bench.uploaded(&signed(&old, 100), "").await;
    same("sign-again").await;
    bench.ask(Some(&bench.admin), Method::POST, "/releases/2/yank", None).await.is(200);
    same("no-file").await;
    bench.uploads(&signed(&old, 201), "").await.is(200);
    bench.ask(Some(&bench.admin), Method::POST, "/releases/2/unyank", None).await.is(200);
    let preview = bench.post("/rollouts/preview", undo.clone()).await.is(200).json();
    assert!(preview.get("problem").is_none(), "{preview}");
}
