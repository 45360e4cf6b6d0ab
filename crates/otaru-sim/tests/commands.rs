//! Commands as the device takes them: refusals before the slot is touched, cancelling, newer commands.
#![expect(clippy::unwrap_used, reason = "a scenario that cannot be set up has failed")]

use std::time::Duration;

use otaru_format::chip::Chip;
use otaru_format::digest::Digest;
use otaru_format::status::{Code, Status, UpdateState};
use otaru_sim::firmware::{Behaviour, FirmwareSpec};
use otaru_sim::lab::dialect::VersionRefusal;
use otaru_sim::lab::{Lab, Setup, firmware, on_each_broker, run};
use otaru_sim::lan::Quality;

const SIZE: usize = 100_000;
const LONG: Duration = Duration::from_secs(3600);
const ALL: &str = "ESP32/ota/update";

fn image(version: &str) -> Vec<u8> {
    firmware(version, SIZE, Behaviour::Healthy)
}

async fn lab(only_311: Option<VersionRefusal>) -> Lab {
    // Slow enough that there is a middle of a download.
    let quality = Quality { rate: 50_000, ..Quality::HOME };
    let mut lab = Lab::new(Setup { quality, only_311, ..Setup::default() }, &image("1.0.0")).unwrap();
    lab.power_on();
    lab.ready().await;
    lab
}

/// The final report after this command.
async fn answer(lab: &Lab, payload: &str) -> Status<String> {
    let before = lab.reports().len();
    lab.broker.publish(ALL, payload, false);
    let mut count = 0;
    let end = lab.wait_for(LONG, |status| {
        count += 1;
        count > before && status.state.is_final()
    });
    end.await.unwrap()
}

fn code(status: &Status<String>) -> (UpdateState, Option<Code>) {
    (status.state, status.error.as_ref().map(|error| error.code))
}

#[test]
fn what_cannot_be_followed_is_refused_and_touches_nothing() {
    on_each_broker(async |broker| {
        let lab = lab(broker).await;
        let spec = FirmwareSpec {
            chip: Chip::Esp32S3,
            project: "lab".into(),
            version: "2".into(),
            secure_version: 0,
            size: SIZE,
            behaviour: Behaviour::Healthy,
        };
        let other_chip = spec.build();
        let other_project = FirmwareSpec { chip: Chip::Esp32C3, project: "toaster".into(), ..spec }.build();
        let too_large = firmware("2", 0x1F_0010, Behaviour::Healthy);
        let pages = lab.flash.contents().unwrap()[0x21_0000..].to_vec();
        let long = format!("http://files/{}", "x".repeat(900));
        for (served, payload, expected) in [
            (image("1.1.0"), "reboot please", Code::BadCommand),
            (image("1.1.0"), long.as_str(), Code::BadCommand),
            (image("1.1.0"), r#"{"url":1}"#, Code::BadCommand),
            (image("1.1.0"), "https://files/new.bin", Code::UnsupportedUrl),
            (other_chip, "http://files/new.bin", Code::WrongChip),
            (other_project.clone(), "http://files/new.bin", Code::WrongProduct),
            (too_large, "http://files/new.bin", Code::TooLarge),
            (b"<html>Not found, but 200</html>".to_vec(), "http://files/new.bin", Code::NotAnImage),
        ] {
            lab.serve(&served);
            let end = answer(&lab, payload).await;
            assert_eq!(code(&end), (UpdateState::Refused, Some(expected)), "{payload}: {end:?}");
        }
        assert_eq!(lab.flash.contents().unwrap()[0x21_0000..], pages, "the free slot is as it was");

        lab.serve(&other_project);
        let end = answer(&lab, r#"{"url":"http://files/new.bin","force":true}"#).await;
        assert_eq!((end.state, end.project.as_str()), (UpdateState::Confirmed, "toaster"));
    });
}

#[test]
fn an_image_other_than_the_one_offered_is_never_started() {
    on_each_broker(async |broker| {
        let mut lab = lab(broker).await;
        lab.serve(&image("6.6.6"));
        let offer = format!(r#"{{"url":"http://files/new.bin","image":"{}"}}"#, Digest::of(&image("1.1.0")));
        let end = answer(&lab, &offer).await;
        assert_eq!(code(&end), (UpdateState::Failed, Some(Code::DigestMismatch)));
        lab.power_on();
        lab.ready().await;
        assert!(lab.events().iter().all(|event| !format!("{event:?}").contains("6.6.6")), "never booted");
        assert!(lab.runs("1.0.0"));
    });
}

#[test]
fn an_emptied_retained_command_is_no_command() {
    on_each_broker(async |broker| {
        let lab = lab(broker).await;
        lab.broker.publish(ALL, "", true);
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(lab.reports().iter().all(|report| report.state == UpdateState::Idle));
    });
}

#[test]
fn a_download_can_be_cancelled_and_the_next_one_works() {
    on_each_broker(async |broker| {
        let lab = lab(broker).await;
        lab.serve(&image("1.1.0"));
        lab.command();
        lab.wait_for(LONG, |status| status.progress.is_some_and(|percent| percent > 30)).await.unwrap();
        assert_eq!(answer(&lab, "cancel").await.state, UpdateState::Cancelled);
        assert_eq!(lab.update(LONG).await.unwrap().state, UpdateState::Confirmed);
        assert!(lab.runs("1.1.0"));
    });
}

#[test]
fn a_newer_command_takes_over() {
    on_each_broker(async |broker| {
        let lab = lab(broker).await;
        let (first, second) = (image("1.1.0"), image("1.2.0"));
        lab.http.handle(move |request| {
            let bytes = if request.path == "/second.bin" { &second } else { &first };
            otaru_sim::lab::http::file(request, bytes, "\"x\"")
        });
        lab.command();
        lab.wait_for(LONG, |status| status.progress.is_some_and(|percent| percent > 30)).await.unwrap();
        let end = answer(&lab, "http://files/second.bin").await;
        assert_eq!((end.state, end.version.as_str()), (UpdateState::Confirmed, "1.2.0"));
        assert!(lab.reports().iter().all(|report| report.version != "1.1.0"));
    });
}

#[test]
fn a_report_the_broker_refuses_confirms_nothing() {
    on_each_broker(async |broker| {
        let lab = lab(broker).await;
        lab.serve(&image("1.1.0"));
        lab.command();
        lab.wait_for(LONG, |status| status.state == UpdateState::Restarting).await.unwrap();
        lab.broker.refuse_reports(true);
        tokio::time::sleep(Duration::from_secs(400)).await;
        lab.broker.refuse_reports(false);
        let end = lab.wait_for(LONG, |status| status.state == UpdateState::Retrying).await.unwrap();
        assert_eq!((end.error.unwrap().code, end.version.as_str()), (Code::Unreachable, "1.0.0"));
    });
}

#[test]
fn a_command_that_is_longer_than_a_packet_may_be_changes_nothing() {
    // With 3.1.1 a broker cannot be told how long a packet may be: `mqtt_version.rs`.
    run(async {
        let lab = lab(None).await;
        lab.broker.publish(ALL, format!("http://files/{}", "x".repeat(5000)), true);
        lab.serve(&image("1.1.0"));
        assert_eq!(answer(&lab, "http://files/new.bin").await.state, UpdateState::Confirmed);
    });
}
