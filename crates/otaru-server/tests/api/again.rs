//! Ways back: what is signed again with a higher sequence, what is not, and what is said where it cannot be.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::{Request, header};
use otaru_api::Timestamp;
use otaru_format::chip::Chip;
use otaru_format::digest::Digest;
use otaru_format::image::{DescriptorFields, ImageFields};
use otaru_format::release::MAX_SEQUENCE;
use otaru_release::build::{Options, build};
use otaru_release::keys::SecretKey;
use otaru_release::output::Existing;
use otaru_release::sign::resign_as;
use otaru_rollout::Time;
use otaru_server::clock::Clock;
use otaru_server::db::DbError;
use otaru_server::statement_params as params;
use serde_json::{Value, json};

use crate::bench::{Answer, Bench, LIMIT};

fn key() -> SecretKey {
    SecretKey::from_seed(&[7; 32])
}

/// An image whose bytes follow from its names.
fn image(project: &str, version: &str) -> Vec<u8> {
    let descriptor = DescriptorFields { project, version, secure_version: 0, elf_sha256: Digest::ZERO };
    let code: Vec<u8> = (0..500_u32).flat_map(|n| n.to_le_bytes()).collect();
    let segments = &[(0x3C00_0020, &[][..]), (0x4200_0020, &code)];
    ImageFields { chip: Chip::Esp32C3, descriptor, segments, hash_appended: true }.emit()
}

pub(crate) fn lamp(version: &str) -> Vec<u8> {
    image("lamp", version)
}

fn release(image: &[u8], sequence: u64) -> Vec<u8> {
    build(image, &Options::new(sequence), &mut |_| {}).unwrap().sign(&key()).unwrap()
}

/// A server that has the key.
pub(crate) async fn with_key() -> Bench {
    with_key_at(Clock::system()).await
}

async fn with_key_at(clock: Clock) -> Bench {
    let set = |config: &mut otaru_server::config::Config| {
        let path = config.data.with_file_name("release.pem");
        key().write(&path, Existing::Keep).unwrap();
        config.signing_key = Some(path);
    };
    Bench::start_at(set, clock).await
}

impl Bench {
    pub(crate) async fn try_upload(&self, bytes: Vec<u8>) -> Answer {
        let request = Request::post("/api/v1/releases")
            .header(header::AUTHORIZATION, format!("Bearer {}", self.admin))
            .body(Body::from(bytes));
        self.send(request.unwrap()).await
    }

    /// Uploads a file; gives back the release's id.
    pub(crate) async fn upload(&self, bytes: Vec<u8>) -> u64 {
        let answer = self.try_upload(bytes).await;
        assert!(answer.status.is_success(), "{answer:?}");
        answer.json()["id"].as_u64().unwrap()
    }

    async fn sequence(&self, release: u64) -> u64 {
        self.get(&format!("/releases/{release}")).await.is(200).json()["sequence"].as_u64().unwrap()
    }

    /// Reports as a device does, and gives back what it is to do.
    pub(crate) async fn report(&self, device: &str, version: &str, image: &[u8], more: Value) -> Value {
        let mut report = json!({"device": device, "chip": "esp32c3", "state": "idle", "project": "lamp", "version": version,
            "image": Digest::of(image).to_string(), "slot": 0, "confirmed": true, "boot": "power_on", "uptime": 3});
        report.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let path = format!("/devices/{device}/status");
        self.post(&path, report).await.is(200).json()["offer"].clone()
    }

    /// A device that runs this version.
    pub(crate) async fn device(&self, device: &str, version: &str) {
        self.post("/devices", json!({"id": device})).await.is(201);
        self.report(device, version, &lamp(version), json!({})).await;
    }

    /// Waits until a device that runs one version is offered another. It asks seldom: a device may report so often only, and where the
    /// test holds the clock it never may more.
    pub(crate) async fn offered(&self, device: &str, version: &str) -> Value {
        let end = Instant::now() + LIMIT;
        loop {
            let offer = self.report(device, version, &lamp(version), json!({"rssi": -50})).await;
            if !offer.is_null() {
                return offer;
            }
            assert!(Instant::now() < end, "{device} is offered nothing");
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    }

    /// A device goes from one version to another for a rollout of the release.
    async fn updates(&self, device: &str, from: &str, to: &str, release: u64) -> u64 {
        let rollout = self.made(json!({"name": "x", "release": release})).await;
        self.offered(device, from).await;
        self.report(device, to, &lamp(to), json!({"state": "confirmed"})).await;
        rollout
    }

    async fn made(&self, rollout: Value) -> u64 {
        self.post("/rollouts", rollout).await.is(201).json()["id"].as_u64().unwrap()
    }

    pub(crate) async fn waits_for(&self, rollout: u64, standing: &str) {
        let end = Instant::now() + LIMIT;
        loop {
            let shown = self.get(&format!("/rollouts/{rollout}/deployments")).await.json();
            if shown["items"][0]["standing"] == standing {
                return;
            }
            assert!(Instant::now() < end, "not {standing}: {shown}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Returns the detail of a problem of this kind.
fn said(answer: Answer, kind: &str) -> String {
    answer.problem(409, kind).json()["detail"].as_str().unwrap().to_owned()
}

fn command(version: &str, sequence: u64) -> String {
    format!(
        "`otaru resign lamp-{version}.otaru --key KEY.pem --sequence {sequence} -o lamp-{version}-again.otaru`"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_key_every_way_back_names_the_command() {
    let bench = Bench::start().await;
    let (old, new) = (release(&lamp("1.0.0"), 100), release(&lamp("1.1.0"), 200));
    let (old_id, new_id) = (bench.upload(old.clone()).await, bench.upload(new).await);
    bench.device("hall", "1.0.0").await;
    let draft = bench.made(json!({"name": "later", "release": old_id, "draft": true})).await;
    bench.updates("hall", "1.0.0", "1.1.0", new_id).await;
    let rollouts = bench.get("/rollouts").await.json()["items"].as_array().unwrap().len();

    let wanted = command("1.0.0", 201);
    for body in [
        json!({"undo": draft + 1}),
        json!({"undo": draft + 1, "force": true}),
        json!({"undo": draft + 1, "draft": true}),
        json!({"release": old_id}),
        json!({"release": old_id, "force": true}),
        json!({"release": old_id, "start_at": "2106-02-07T06:28:15Z"}),
    ] {
        let mut body = body;
        body["name"] = "back".into();
        let said = said(bench.post("/rollouts", body.clone()).await, "sign-again");
        assert!(said.contains(&wanted), "{body}: {said}");
    }
    let said = said(bench.post(&format!("/rollouts/{draft}/start"), json!({})).await, "sign-again");
    assert!(said.contains(&wanted), "{said}");
    let now = bench.get("/rollouts").await.json()["items"].as_array().unwrap().len();
    assert_eq!((now, bench.sequence(old_id).await), (rollouts, 100), "nothing was made or changed");

    // What it says to do helps.
    bench.upload(resign_as(&old, 201, &key()).unwrap()).await;
    bench.made(json!({"name": "back", "undo": draft + 1})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_signed_is_made_again_instead() {
    let bench = Bench::start().await;
    let unsigned = |version: &str, sequence| {
        build(&lamp(version), &Options::new(sequence), &mut |_| {}).unwrap().without_signature().unwrap()
    };
    let old = bench.upload(unsigned("1.0.0", 100)).await;
    bench.upload(unsigned("1.1.0", 200)).await;
    bench.device("hall", "1.1.0").await;
    let back = json!({"name": "back", "release": old, "force": true});
    let refused = said(bench.post("/rollouts", back.clone()).await, "sign-again");
    let wanted = "`otaru release lamp-1.0.0.bin --sequence 201 -o lamp-1.0.0-again.otaru`";
    assert!(refused.contains(wanted), "{refused}");
    bench.upload(unsigned("1.0.0", 201)).await;
    bench.made(back).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_key_a_forced_retry_names_the_command() {
    let bench = Bench::start().await;
    let new = release(&lamp("1.1.0"), 200);
    let new_id = bench.upload(new.clone()).await;
    bench.device("hall", "1.0.0").await;
    let rollout = bench
        .made(json!({"name": "x", "release": new_id, "attempts": {"count": 1}, "continuous": true}))
        .await;
    bench.offered("hall", "1.0.0").await;
    let failed = json!({"version": "1.1.0", "image": Digest::of(&lamp("1.1.0")).to_string(), "boots": 1});
    bench.report("hall", "1.0.0", &lamp("1.0.0"), json!({"state": "rolled_back", "failed": failed})).await;
    bench.waits_for(rollout, "rolled_back").await;

    let retry = format!("/rollouts/{rollout}/deployments/hall/retry");
    let refused = said(bench.post(&retry, json!({"force": true})).await, "sign-again");
    assert!(refused.contains(&command("1.1.0", 201)), "{refused}");
    let forced = json!({"name": "y", "release": new_id, "force": true});
    let refused = said(bench.post("/rollouts", forced.clone()).await, "sign-again");
    assert!(refused.contains(&command("1.1.0", 201)), "{refused}");
    bench.waits_for(rollout, "rolled_back").await;

    // Signed again it is taken, and once only.
    bench.upload(resign_as(&new, 201, &key()).unwrap()).await;
    bench.post(&retry, json!({"force": true})).await.is(200);
    let offer = bench.offered("hall", "1.0.0").await;
    assert_eq!(offer["force"], Value::Null, "{offer}");
    let refused = said(bench.post("/rollouts", forced).await, "sign-again");
    assert!(refused.contains(&command("1.1.0", 202)), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dashboard_names_the_command_too() {
    let bench = Bench::start().await;
    let old = bench.upload(release(&lamp("1.0.0"), 100)).await;
    let new = bench.upload(release(&lamp("1.1.0"), 200)).await;
    bench.device("hall", "1.0.0").await;
    let undo = bench.updates("hall", "1.0.0", "1.1.0", new).await;
    let cookie = bench.log_in(&bench.admin).await;
    for form in [format!("undo={undo}&name=back"), format!("release={old}&name=back&force=1")] {
        let answer = bench.form(&cookie, "/rollouts/new", &form).await;
        assert!(
            answer.text.contains("otaru resign lamp-1.0.0.otaru --key KEY.pem --sequence 201"),
            "{answer:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_start_yet_signs_nothing() {
    let now = Arc::new(AtomicU64::new(1_700_000_000_000));
    let clock = Clock::new({
        let now = Arc::clone(&now);
        move || Time(now.load(Ordering::Relaxed))
    });
    let bench = with_key_at(clock).await;
    let old = bench.upload(release(&lamp("1.0.0"), 100)).await;
    let new = bench.upload(release(&lamp("1.1.0"), 200)).await;
    bench.device("hall", "1.0.0").await;
    let undo = bench.updates("hall", "1.0.0", "1.1.0", new).await;

    let later = 1_700_000_100_000_u64;
    let draft = bench.made(json!({"name": "a", "undo": undo, "draft": true})).await;
    // Its window is closed when it begins, at 22:15 UTC, so that it only queues the device.
    let scheduled = json!({"name": "b", "release": old, "start_at": Timestamp::from(Time(later)),
        "limits": {"window": "03:00-04:00"}});
    let scheduled = bench.made(scheduled).await;
    assert_eq!(bench.sequence(old).await, 100);
    // Its time comes.
    now.store(later, Ordering::Relaxed);
    let end = Instant::now() + LIMIT;
    while bench.get(&format!("/rollouts/{scheduled}")).await.json()["phase"] == "scheduled" {
        assert!(Instant::now() < end, "it does not begin");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(bench.sequence(old).await, later);
    bench.waits_for(scheduled, "ready").await;
    bench.post(&format!("/rollouts/{scheduled}/abort"), json!({})).await.is(200);
    // And the draft, which starts while the other's deployments are not closed yet, finds the device free and the release signed.
    bench.post(&format!("/rollouts/{draft}/start"), json!({})).await.is(200);
    assert_eq!(bench.sequence(old).await, later);
    bench.offered("hall", "1.1.0").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draft_is_signed_when_it_starts() {
    let bench = with_key().await;
    let old = bench.upload(release(&lamp("1.0.0"), 100)).await;
    let new = bench.upload(release(&lamp("1.1.0"), 200)).await;
    bench.device("hall", "1.0.0").await;
    let undo = bench.updates("hall", "1.0.0", "1.1.0", new).await;
    for force in [false, true] {
        let draft = json!({"name": "a", "undo": undo, "draft": true, "force": force});
        bench.made(draft).await;
        assert_eq!(bench.sequence(old).await, 100);
    }
    bench.post(&format!("/rollouts/{}/start", undo + 1), json!({})).await.is(200);
    assert!(bench.sequence(old).await > 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_sequence_is_above_all_that_devices_have_had() {
    const AHEAD: u64 = MAX_SEQUENCE - 1_000;
    let bench = with_key().await;
    let old = bench.upload(release(&lamp("1.0.0"), 100)).await;
    let new = bench.upload(release(&lamp("1.1.0"), 200)).await;
    // Of another product's name, whose number is above any time.
    let renamed = image("lantern", "3.0.0");
    bench.upload(release(&renamed, AHEAD)).await;
    bench.upload(release(&image("lantern", "4.0.0"), AHEAD + 500)).await;
    bench.device("hall", "1.1.0").await;
    // It ran that once, and runs an image now that nobody knows.
    bench.device("loft", "1.0.0").await;
    bench.report("loft", "3.0.0", &renamed, json!({"product": "lamp"})).await;
    bench.report("loft", "9.0.0", &lamp("9.0.0"), json!({})).await;
    bench.made(json!({"name": "back", "release": old, "target": {"devices": ["hall"]}})).await;
    assert_eq!(bench.sequence(old).await, AHEAD + 1, "above what `loft` has had");
    // And so is that of a release that this server makes.
    let made = bench.upload(lamp("5.0.0")).await;
    let end = Instant::now() + LIMIT;
    while bench.get(&format!("/releases/{made}")).await.json()["file"].is_null() {
        assert!(Instant::now() < end);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(bench.sequence(made).await, AHEAD + 2);
    // What a device reports to run counts, whether or not it took it from here.
    bench.report("hall", "3.1.0", &image("lantern", "4.0.0"), json!({"product": "lamp"})).await;
    bench.made(json!({"name": "back", "release": new, "target": {"devices": ["loft"]}})).await;
    assert_eq!(bench.sequence(new).await, AHEAD + 501);
    // There is an end, which is told.
    bench.upload(release(&lamp("7.0.0"), MAX_SEQUENCE)).await;
    bench.report("hall", "7.0.0", &lamp("7.0.0"), json!({})).await;
    let told = said(bench.post("/rollouts", json!({"name": "back", "release": old})).await, "conflict");
    assert!(told.contains("highest sequence there is"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_signed_is_told_and_nothing_is_half_done() {
    let bench = with_key().await;
    let old = bench.upload(release(&lamp("1.0.0"), 100)).await;
    let new = bench.upload(release(&lamp("1.1.0"), 200)).await;
    bench.device("hall", "1.0.0").await;
    let undo = bench.updates("hall", "1.0.0", "1.1.0", new).await;
    let draft = bench.made(json!({"name": "later", "undo": undo, "draft": true})).await;
    let file: Digest =
        bench.get(&format!("/releases/{old}")).await.json()["file"].as_str().unwrap().parse().unwrap();
    bench.server.app().artifacts.remove(file).await.unwrap();
    let keyed = |body: Value| {
        Request::post("/api/v1/rollouts")
            .header(header::AUTHORIZATION, format!("Bearer {}", bench.admin))
            .header(header::CONTENT_TYPE, "application/json")
            .header("idempotency-key", "k")
            .body(Body::from(body.to_string()))
            .unwrap()
    };
    let body = json!({"name": "back", "undo": undo});
    for answer in [
        bench.post("/rollouts", body.clone()).await,
        bench.post("/rollouts", json!({"name": "back", "release": old})).await,
        bench.send(keyed(body.clone())).await,
        bench.post(&format!("/rollouts/{draft}/start"), json!({})).await,
    ] {
        let told = said(answer, "conflict");
        assert!(told.contains("cannot be signed again") && told.contains("upload it again"), "{told}");
    }
    let rollouts = bench.get("/rollouts").await.json();
    assert_eq!((rollouts["items"].as_array().unwrap().len(), bench.sequence(old).await), (2, 100));
    assert_eq!(rollouts["items"][0]["phase"], "draft");
    // The key of the request that failed is still free, and what it says to do helps.
    bench.upload(release(&lamp("1.0.0"), 100)).await;
    let made = bench.send(keyed(body.clone())).await.is(201).json();
    let sequence = bench.sequence(old).await;
    assert!(sequence > 200);
    assert_eq!(bench.send(keyed(body)).await.is(201).json(), made, "sent twice, done once");
    assert_eq!(bench.sequence(old).await, sequence);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_fleet_does_not_hold_up_reports() {
    const DEVICES: usize = 20_000;
    let bench = with_key().await;
    let old = bench.upload(release(&lamp("1.0.0"), 100)).await;
    let new = bench.upload(release(&lamp("1.1.0"), 200)).await;
    bench.device("hall", "1.0.0").await;
    bench.updates("hall", "1.0.0", "1.1.0", new).await;
    let app = bench.server.app().clone();
    let running = Digest::of(&lamp("1.1.0")).0;
    app.db
        .write(move |tx| {
            let sql = "INSERT INTO devices (id, first_seen, chip, product, version, image, had)
                       VALUES (?, 1, 'esp32c3', 'lamp', '1.1.0', ?, 200)";
            (0..DEVICES).try_for_each(|n| tx.execute(sql, params![format!("d{n}"), running]).map(drop))?;
            Ok::<_, DbError>(())
        })
        .await
        .unwrap();
    // What is written meanwhile never waits for as long as it takes to ask every device.
    let (begun, stop) = (Instant::now(), Arc::new(AtomicU64::new(0)));
    let waits = tokio::spawn({
        let stop = Arc::clone(&stop);
        async move {
            let mut longest = Duration::ZERO;
            while stop.load(Ordering::Relaxed) == 0 {
                let begun = Instant::now();
                app.db.write(|_| Ok::<_, DbError>(())).await.unwrap();
                longest = longest.max(begun.elapsed());
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            longest
        }
    });
    bench.made(json!({"name": "back", "release": old, "draft": true})).await;
    let took = begun.elapsed();
    stop.store(1, Ordering::Relaxed);
    let longest = waits.await.unwrap();
    assert!(longest < took / 3, "a write waited {longest:?} of {took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sequence_that_browsers_cannot_carry_is_refused() {
    let bench = Bench::start().await;
    let good = release(&lamp("1.0.0"), MAX_SEQUENCE);
    let was = [&[5, 0x1B][..], &MAX_SEQUENCE.to_be_bytes()].concat();
    let at = good.windows(was.len()).position(|window| window == was).unwrap() + 2;
    for high in [MAX_SEQUENCE + 1, u64::MAX] {
        let mut bad = good.clone();
        bad[at..at + 8].copy_from_slice(&high.to_be_bytes());
        let answer = bench.try_upload(bad).await.problem(422, "bad-firmware");
        assert!(answer.text.contains("make the release again with a lower one"), "{answer:?}");
    }
    let id = bench.upload(good).await;
    assert_eq!(bench.sequence(id).await, 9_007_199_254_740_991);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_way_back_to_an_image_that_is_not_here_is_refused() {
    let bench = Bench::start().await;
    let new = bench.upload(lamp("1.1.0")).await;
    // Nobody uploaded what it runs.
    bench.device("hall", "0.9.0").await;
    let undo = bench.updates("hall", "0.9.0", "1.1.0", new).await;
    let (digest, back) = (Digest::of(&lamp("0.9.0")).to_string(), json!({"name": "back", "undo": undo}));
    let mut draft = back.clone();
    draft["draft"] = true.into();
    for body in [&back, &draft] {
        let told = said(bench.post("/rollouts", body.clone()).await, "no-file");
        for words in ["hall", "version 0.9.0", &digest, "otaru release upload"] {
            assert!(told.contains(words), "{told}");
        }
    }
    // Uploaded it is there; yanked it is as if it were not.
    let old = bench.upload(lamp("0.9.0")).await;
    bench.made(draft).await;
    bench.post(&format!("/releases/{old}/yank"), json!({})).await.is(200);
    for answer in [
        bench.post("/rollouts", back.clone()).await,
        bench.post(&format!("/rollouts/{}/start", undo + 1), json!({})).await,
    ] {
        let told = said(answer, "no-file");
        assert!(told.contains("lamp 0.9.0") && told.contains("yanked"), "{told}");
    }
    bench.post(&format!("/releases/{old}/unyank"), json!({})).await.is(200);
    bench.made(back).await;
    bench.offered("hall", "1.1.0").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_whose_file_goes_waits_and_can_be_aborted() {
    let bench = Bench::start().await;
    let new = bench.upload(lamp("1.1.0")).await;
    bench.device("hall", "1.0.0").await;
    bench.device("loft", "1.0.0").await;
    let one = json!({"name": "x", "release": new, "limits": {"concurrency": 1}, "attempts": {"count": 1}});
    let rollout = bench.made(one).await;
    bench.offered("hall", "1.0.0").await;
    bench.post(&format!("/releases/{new}/yank"), json!({})).await.is(200);
    let named = bench.get(&format!("/rollouts/{rollout}/deployments")).await.json();
    assert_eq!(named["items"][1]["standing"], "ready");
    let said =
        said(bench.post(&format!("/rollouts/{rollout}/deployments/hall/retry"), json!({})).await, "conflict");
    assert!(said.contains("not over"), "{said}");
    // It was offered the image and has not begun: it never will.
    bench.post(&format!("/rollouts/{rollout}/abort"), json!({})).await.is(200);
    let end = Instant::now() + LIMIT;
    loop {
        let shown = bench.get(&format!("/rollouts/{rollout}/deployments")).await.json();
        let standings: Vec<_> =
            shown["items"].as_array().unwrap().iter().map(|item| item["standing"].clone()).collect();
        if standings == ["failed", "cancelled"] {
            break;
        }
        assert!(Instant::now() < end, "{shown}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
