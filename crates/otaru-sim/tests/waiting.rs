//! An image that waits to be tried again, and what happens meanwhile: a broker that flaps, power that goes, other commands.
#![expect(clippy::unwrap_used, reason = "a scenario that cannot be set up has failed")]

use std::time::Duration;

use otaru_format::digest::Digest;
use otaru_format::status::{Code, Status, UpdateState};
use otaru_sim::bootloader::BootloaderKind;
use otaru_sim::device::Event;
use otaru_sim::firmware::Behaviour;
use otaru_sim::lab::dialect::VersionRefusal;
use otaru_sim::lab::http::{self, Request};
use otaru_sim::lab::release::{Key, Recipe};
use otaru_sim::lab::{DEVICE, Lab, Setup, firmware, on_each_broker};

const SIZE: usize = 100_000;
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const ALL: &str = "ESP32/ota/update";
const BOOTLOADERS: [BootloaderKind; 2] = [BootloaderKind::Plain, BootloaderKind::Rollback];

fn image(version: &str) -> Vec<u8> {
    firmware(version, SIZE, Behaviour::Healthy)
}

fn plain(only_311: Option<VersionRefusal>, bootloader: BootloaderKind) -> Setup {
    Setup { bootloader, only_311, ..Setup::default() }
}

fn strict(only_311: Option<VersionRefusal>, bootloader: BootloaderKind) -> Setup {
    let mut setup = plain(only_311, bootloader);
    setup.config.allow_unsigned = false;
    setup.config.keys = Box::leak(Box::new([Key(1).public()]));
    setup
}

/// Serves each version under its name.
fn by_name(request: &Request) -> Vec<http::Act> {
    let version = request.path.trim_start_matches('/').trim_end_matches(".bin").to_owned();
    http::file(request, &image(&version), &format!("\"{version}\""))
}

async fn lab(setup: Setup) -> Lab {
    let mut lab = Lab::new(setup, &image("1.0.0")).unwrap();
    lab.http.handle(by_name);
    lab.power_on();
    lab.ready().await;
    lab
}

fn outcome(status: &Status<String>) -> (UpdateState, Option<Code>) {
    (status.state, status.error.as_ref().map(|error| error.code))
}

fn last(lab: &Lab) -> Status<String> {
    lab.reports().pop().unwrap()
}

fn starts(lab: &Lab, version: &str) -> usize {
    let of_version = |event: &&Event| matches!(event, Event::Booted { version: v, .. } if v == version);
    lab.events().iter().filter(of_version).count()
}

/// Takes the broker away when an image is started for the `trial`th time, and waits until the old one has returned.
async fn unheard(lab: &Lab, trial: usize) {
    let restarting = |messages: &[otaru_sim::lab::broker::Message]| {
        messages.iter().filter(|message| message.payload.contains(r#""state":"restarting""#)).count() >= trial
    };
    tokio::time::timeout(2 * HOUR, lab.broker.wait_until(restarting)).await.unwrap();
    lab.broker.away(true);
    let end = tokio::time::Instant::now() + HOUR;
    while starts(lab, "1.0.0") <= trial {
        assert!(tokio::time::Instant::now() < end, "the old image must return");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn waits(lab: &Lab) -> Status<String> {
    lab.broker.away(false);
    lab.wait_for(HOUR, |status| status.state == UpdateState::Retrying).await.unwrap()
}

async fn confirmed(lab: &Lab, version: &str) {
    let done = |status: &Status<String>| status.version == version && status.state == UpdateState::Confirmed;
    let end = lab.wait_for(2 * HOUR, done).await;
    assert!(end.is_some_and(|end| done(&end)), "{version}: {:?}", last(lab));
}

#[test]
fn a_broker_that_flaps_puts_the_next_trial_off() {
    for bootloader in BOOTLOADERS {
        on_each_broker(async |broker| {
            let lab = lab(plain(broker, bootloader)).await;
            lab.broker.publish(ALL, "http://files/1.1.0.bin", true);
            unheard(&lab, 1).await;
            for _ in 0..100 {
                lab.broker.away(false);
                tokio::time::sleep(3 * MINUTE).await;
                assert_eq!(starts(&lab, "1.1.0"), 1, "not before it was there for ten minutes");
                lab.broker.away(true);
                tokio::time::sleep(MINUTE / 2).await;
            }
            lab.broker.away(false);
            confirmed(&lab, "1.1.0").await;
        });
    }
}

#[test]
fn power_that_goes_while_an_image_waits_changes_no_count() {
    for bootloader in BOOTLOADERS {
        on_each_broker(async |broker| {
            let mut lab = lab(plain(broker, bootloader)).await;
            lab.broker.publish(ALL, "http://files/1.1.0.bin", true);
            unheard(&lab, 1).await;
            waits(&lab).await;
            for _ in 0..30 {
                tokio::time::sleep(4 * MINUTE).await;
                lab.power_on();
                lab.ready().await;
                tokio::time::sleep(Duration::from_secs(5)).await;
                let now = last(&lab);
                assert_eq!(outcome(&now), (UpdateState::Retrying, Some(Code::Unreachable)));
                assert!(now.error.unwrap().detail.contains("trial 2 of 5"));
            }
            assert_eq!(starts(&lab, "1.1.0"), 1);
            confirmed(&lab, "1.1.0").await;
        });
    }
}

#[test]
fn a_release_that_waited_counts_as_one() {
    for (bootloader, delta) in BOOTLOADERS.into_iter().flat_map(|kind| [(kind, false), (kind, true)]) {
        on_each_broker(async |broker| {
            let lab = lab(strict(broker, bootloader)).await;
            let (old, new) = (image("1.0.0"), image("1.1.0"));
            let patch = || (Digest::of(&old), otaru_delta::encode(&old, &new).unwrap());
            let patches = delta.then(patch).into_iter().collect();
            let good = Recipe { patches, ..Recipe::new("1.1.0", 20) }.make(&new).unwrap();
            let mut bad = good.clone();
            bad[200] ^= 1;
            lab.http.handle(move |request| {
                http::file(request, if request.path == "/bad" { &bad } else { &good }, "\"r\"")
            });
            lab.command();
            unheard(&lab, 1).await;
            waits(&lab).await;
            // A release that nobody signed ends no wait.
            lab.broker.publish(ALL, "http://files/bad", false);
            lab.wait_for(HOUR, |status| status.state == UpdateState::Refused).await.unwrap();
            let sent = lab.http.sent();
            confirmed(&lab, "1.1.0").await;
            assert_eq!(lab.http.sent(), sent, "it stood in the slot");
            tokio::time::sleep(MINUTE).await;
            lab.serve(&Recipe::new("1.2.0", 19).make(&image("1.2.0")).unwrap());
            let end = lab.update(HOUR).await.unwrap();
            assert_eq!(
                outcome(&end),
                (UpdateState::Refused, Some(Code::Downgrade)),
                "{bootloader:?} {delta}"
            );
        });
    }
}

#[test]
fn a_newer_offer_takes_the_place_of_a_retained_command_that_waits() {
    for bootloader in BOOTLOADERS {
        on_each_broker(async |broker| {
            let mut lab = lab(plain(broker, bootloader)).await;
            lab.broker.publish(ALL, "http://files/1.1.0.bin", true);
            unheard(&lab, 1).await;
            waits(&lab).await;
            let offer = r#"{"url":"http://files/1.2.0.bin","order":5}"#;
            lab.broker.publish(&format!("ESP32/ota/{DEVICE}/update"), offer, false);
            // It is not heard at once either, and power goes while it waits.
            unheard(&lab, 2).await;
            lab.power_on();
            lab.broker.away(false);
            confirmed(&lab, "1.2.0").await;
            tokio::time::sleep(HOUR).await;
            lab.power_on();
            tokio::time::sleep(HOUR).await;
            assert!(lab.runs("1.2.0"), "{:?}", last(&lab));
            assert_eq!(starts(&lab, "1.1.0"), 1);
        });
    }
}
