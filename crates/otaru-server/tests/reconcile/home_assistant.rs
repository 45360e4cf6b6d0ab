//! Choice of the release that Home Assistant is shown for a device.

use otaru_format::status::{Code, FailedImage, UpdateState};
use otaru_rollout::{Control, DeviceId, Phase};
use otaru_server::db::DbError;
use otaru_server::devices::rows;
use otaru_server::home_assistant::choice::{Choice, candidates, choose};
use otaru_server::statement_params as params;
use serde_json::json;

use crate::lab::{Lab, image};

async fn choice(lab: &Lab, device: &str) -> (Choice, String) {
    let device = DeviceId::from(device);
    let chosen = lab.app.db.read(move |tx| {
        let device = rows::get(tx, &device)?.unwrap();
        let choice = choose(tx, &device, &candidates(tx, &device.product, &device.chip)?)?;
        let why = choice.why_not(&device);
        Ok::<_, DbError>((choice, why))
    });
    chosen.await.unwrap()
}

/// The version that is shown as the newest, if there is a newer one.
async fn shown(lab: &Lab, device: &str) -> Option<String> {
    choice(lab, device).await.0.latest.map(|release| release.version)
}

async fn upload(lab: &Lab, version: &'static str) {
    upload_build(lab, version, version).await;
}

/// Another build, by this name, of a version.
async fn upload_build(lab: &Lab, version: &'static str, build: &'static str) {
    let added = lab.app.db.write(move |tx| {
        let digest = image(build).0;
        tx.execute("INSERT INTO artifacts (digest, size, used_at) VALUES (?, 1, 1)", [digest])?;
        tx.execute(
            "INSERT INTO releases (image, product, version, chip, image_size, raw, created_at, created_by)
             VALUES (?1, 'lamp', ?2, 'esp32c3', 1, ?1, 1, 'x')",
            params![digest, version],
        )?;
        Ok::<_, DbError>(())
    });
    added.await.unwrap();
}

fn rolled_back() -> FailedImage<String> {
    FailedImage { version: "1.2.0".to_owned(), image: image("1.2.0"), boots: 3 }
}

/// A device rolls back what it was offered last.
async fn rolls_back(lab: &Lab, device: &str) {
    let name = lab.sent(device).last().unwrap()["deployment"].as_str().unwrap().to_owned();
    lab.reports(device, UpdateState::Downloading, "1.0.0", Some(&name)).await;
    let mut report = Lab::status(device, UpdateState::RolledBack, "1.0.0", Some(&name), Some(Code::Panic));
    report.failed = Some(rolled_back());
    lab.report(device, report).await;
}

#[tokio::test]
async fn versions_that_cannot_be_compared_are_not_the_newest() {
    let lab = Lab::new().await;
    lab.fleet(&["a"]).await;
    upload(&lab, "dev-build").await;
    upload(&lab, "0.9.0").await;
    assert_eq!(shown(&lab, "a").await.as_deref(), Some("1.2.0"));
    // Nothing is older than what runs, nor may it be.
    for (version, says) in
        [("1.2.0", "no release is newer"), ("2.0.0", "no release is newer"), ("dev-build", "by hand")]
    {
        lab.reports("a", UpdateState::Idle, version, None).await;
        let (choice, why) = choice(&lab, "a").await;
        assert_eq!(choice.latest, None, "{version}");
        assert!(why.contains(says), "{why}");
    }
}

#[tokio::test]
async fn what_is_called_alike_has_digits_of_its_image() {
    let lab = Lab::new().await;
    lab.fleet(&["a"]).await;
    upload_build(&lab, "1.2.0", "another build").await;
    let shown = |version: &str, build: &str| format!("{version} ({})", &image(build).to_string()[..8]);
    let (now, _) = choice(&lab, "a").await;
    let latest = now.latest.unwrap();
    assert_eq!(
        (latest.version.as_str(), latest.image),
        ("1.2.0", image("another build")),
        "the last of equal ones"
    );
    assert_eq!(latest.shown, shown("1.2.0", "another build"));
    assert_eq!(now.runs, "1.0.0", "that is called so alone");
    upload_build(&lab, "1.0.0", "what runs, built anew").await;
    assert_eq!(choice(&lab, "a").await.0.runs, shown("1.0.0", "1.0.0"));
}

#[tokio::test]
async fn what_failed_on_a_device_is_not_shown_for_it_again() {
    let mut lab = Lab::new().await;
    lab.fleet(&["a", "b"]).await;
    let id = lab.roll_out(3, json!({"target": {"devices": ["a"]}})).await;
    lab.work().await;
    rolls_back(&lab, "a").await;
    lab.work().await;
    assert_eq!(lab.standing(id, "a").await, "rolled_back");
    let (choice, why) = choice(&lab, "a").await;
    assert_eq!(choice.latest.unwrap().version, "1.1.0", "the next below it");
    assert_eq!(why, "1.2.0 is not offered: this device rolled it back (panic)");
    assert_eq!(shown(&lab, "b").await.as_deref(), Some("1.2.0"), "others are not concerned");
    // It starts anew and says no more of it.
    lab.reports("a", UpdateState::Idle, "1.0.0", None).await;
    assert_eq!(shown(&lab, "a").await.as_deref(), Some("1.1.0"));
}

#[tokio::test]
async fn what_was_rolled_back_after_a_push_is_not_shown_either() {
    let lab = Lab::new().await;
    let mut report = Lab::status("a", UpdateState::Idle, "1.0.0", None, None);
    report.failed = Some(rolled_back());
    lab.comes("a", true).await;
    lab.report("a", report).await;
    assert_eq!(shown(&lab, "a").await.as_deref(), Some("1.1.0"));
}

#[tokio::test]
async fn a_release_whose_rollout_stopped_is_shown_to_nobody() {
    let mut lab = Lab::new().await;
    lab.fleet(&["a", "b", "c"]).await;
    let stop = json!({"stop": {"failures": 5, "minimum": 1}, "limits": {"concurrency": 1}});
    let id = lab.roll_out(3, stop).await;
    lab.work().await;
    rolls_back(&lab, "a").await;
    lab.work().await;
    assert_eq!(lab.phase(id).await, Phase::Stopped);
    let (choice, why) = choice(&lab, "c").await;
    assert_eq!(choice.latest.unwrap().version, "1.1.0");
    assert_eq!(why, format!("1.2.0 is not offered: rollout {} of it stopped after too many failures", id.0));
    // Whoever resumes it stands for it; whoever ends it does not.
    lab.control(id, Control::Resume).await.unwrap();
    assert_eq!(shown(&lab, "c").await.as_deref(), Some("1.2.0"));
    lab.work().await;
    rolls_back(&lab, "b").await;
    lab.work().await;
    assert_eq!(lab.phase(id).await, Phase::Stopped);
    lab.control(id, serde_json::from_value(json!({"abort": {"cancel": true}})).unwrap()).await.unwrap();
    lab.work().await;
    assert_eq!(shown(&lab, "c").await.as_deref(), Some("1.1.0"));
}
