//! The command that counts: acknowledgements, copies that brokers keep, and updates that crash the image that runs.
#![expect(clippy::unwrap_used, reason = "a scenario that cannot be set up has failed")]

use std::time::Duration;

use otaru_device::Clock as _;
use otaru_format::status::{Code, UpdateState};
use otaru_sim::device::Event;
use otaru_sim::firmware::Behaviour;
use otaru_sim::lab::dialect::VersionRefusal;
use otaru_sim::lab::http::{self, Act};
use otaru_sim::lab::{DEVICE, Lab, Setup, firmware, on_each_broker};
use otaru_sim::lan::Quality;

const SIZE: usize = 300_000;
const HOUR: Duration = Duration::from_secs(3600);
const ALL: &str = "ESP32/ota/update";

fn image(version: &str) -> Vec<u8> {
    firmware(version, SIZE, Behaviour::Healthy)
}

async fn lab_with(only_311: Option<VersionRefusal>, image: &[u8]) -> Lab {
    // Slow enough that there is a middle of a download.
    let quality = Quality { rate: 50_000, ..Quality::HOME };
    let mut lab = Lab::new(Setup { quality, only_311, ..Setup::default() }, image).unwrap();
    lab.http.handle(|request| {
        let version = request.path.trim_start_matches('/').trim_end_matches(".bin").to_owned();
        http::file(request, &self::image(&version), &format!("\"{version}\""))
    });
    lab.power_on();
    lab.ready().await;
    lab
}

fn url(version: &str) -> String {
    format!("http://files/{version}.bin")
}

async fn confirmed(lab: &Lab, version: &str) {
    let done = |status: &otaru_format::status::Status<String>| {
        status.version == version && status.state == UpdateState::Confirmed
    };
    let end = lab.wait_for(HOUR, done).await;
    assert!(end.is_some_and(|end| done(&end)), "{version}: {:?}", lab.reports().last());
}

fn starts(lab: &Lab) -> usize {
    lab.events().iter().filter(|event| matches!(event, Event::Booted { .. })).count()
}

#[test]
fn a_command_is_acknowledged_before_the_work_begins() {
    on_each_broker(async |broker| {
        let lab = lab_with(broker, &image("1.0.0")).await;
        lab.http.handle(|_| vec![Act::Stall]);
        for number in 0..30 {
            let at = lab.clock.now();
            lab.broker.publish(ALL, format!("http://files/{number}.bin"), false);
            tokio::time::sleep(Duration::from_millis(2500)).await;
            let acknowledged = lab.broker.acknowledged();
            assert_eq!(acknowledged.len(), number + 1);
            assert!(acknowledged[number] - at <= Duration::from_secs(2), "{number}");
        }
    });
}

#[test]
fn a_flood_of_commands_wears_no_flash_out() {
    on_each_broker(async |broker| {
        let lab = lab_with(broker, &image("1.0.0")).await;
        lab.http.handle(|_| vec![Act::Stall]);
        let before = lab.flash.counts().pages;
        for number in 0..600 {
            lab.broker.publish(ALL, format!("http://files/{number}.bin"), false);
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        let written = lab.flash.counts().pages - before;
        assert_eq!(lab.broker.acknowledged().len(), 600);
        // 60 times at most: a command in four pages or so, and what was followed.
        assert!((60..60 * 10).contains(&written), "{written} pages in ten minutes");
        // The newest is the one that counts.
        lab.http.handle(move |request| {
            assert!(request.path.contains("599"), "{}", request.path);
            http::file(request, &image("1.1.0"), "\"x\"")
        });
        confirmed(&lab, "1.1.0").await;
    });
}

#[test]
fn an_update_that_crashes_the_running_image_ends_after_three_crashes() {
    // Retained, so that it is delivered at each start as well; or not.
    for retained in [false, true] {
        on_each_broker(async |broker| {
            let lab = lab_with(broker, &firmware("1.0.0", SIZE, Behaviour::CrashInUpdate)).await;
            lab.broker.publish(ALL, url("1.1.0"), retained);
            let end = lab.wait_for(HOUR, |status| status.state == UpdateState::Failed).await.unwrap();
            assert_eq!(end.error.unwrap().code, Code::Crashed);
            assert_eq!(starts(&lab), 4, "the first start, and one after each crash");
            tokio::time::sleep(HOUR).await;
            assert_eq!(starts(&lab), 4, "nothing starts it again");
            // Another connection brings the retained copy once more.
            lab.broker.away(true);
            tokio::time::sleep(HOUR).await;
            lab.broker.away(false);
            tokio::time::sleep(HOUR).await;
            assert_eq!(starts(&lab), 4, "nor does a copy");
            // A person may: a new count.
            lab.broker.publish(ALL, url("1.1.0"), false);
            tokio::time::sleep(HOUR).await;
            assert_eq!(starts(&lab), 7);
        });
    }
}

#[test]
fn a_command_that_was_never_acknowledged_counts_with_its_redeliveries() {
    on_each_broker(async |broker| {
        let lab = lab_with(broker, &firmware("1.0.0", SIZE, Behaviour::CrashInUpdate)).await;
        lab.broker.forget_acknowledgements(true);
        lab.broker.publish(&format!("ESP32/ota/{DEVICE}/update"), url("1.1.0"), false);
        tokio::time::sleep(3 * HOUR).await;
        assert_eq!(starts(&lab), 4);
    });
}

#[test]
fn a_retained_old_command_does_not_undo_a_newer_one() {
    // The device was there when the old one was published, or came later.
    for late in [false, true] {
        on_each_broker(async |broker| {
            let mut lab = lab_with(broker, &image("1.0.0")).await;
            if late {
                lab.power_off();
            }
            lab.broker.publish(ALL, url("1.1.0"), true);
            if late {
                lab.power_on();
            }
            confirmed(&lab, "1.1.0").await;
            lab.broker.publish(ALL, url("1.2.0"), false);
            confirmed(&lab, "1.2.0").await;
            for _ in 0..3 {
                tokio::time::sleep(HOUR).await;
                lab.power_on();
                lab.ready().await;
            }
            assert!(lab.runs("1.2.0"), "late: {late}: {:?}", lab.reports().last());
            assert!(lab.lines().iter().any(|line| line.starts_with("Passed over:")));
            // Published again, it is meant.
            lab.broker.publish(ALL, url("1.1.0"), true);
            confirmed(&lab, "1.1.0").await;
        });
    }
}

#[test]
fn a_retained_copy_in_the_middle_of_a_newer_update_does_not_end_it() {
    on_each_broker(async |broker| {
        let lab = lab_with(broker, &image("1.0.0")).await;
        lab.broker.publish(ALL, url("1.1.0"), true);
        confirmed(&lab, "1.1.0").await;
        lab.broker.publish(ALL, url("1.2.0"), false);
        lab.wait_for(HOUR, |status| status.progress.is_some_and(|percent| percent > 30)).await.unwrap();
        lab.broker.away(true);
        tokio::time::sleep(Duration::from_secs(1)).await;
        lab.broker.away(false);
        confirmed(&lab, "1.2.0").await;
    });
}

#[test]
fn two_retained_commands_do_not_take_turns() {
    on_each_broker(async |broker| {
        let mut lab = lab_with(broker, &image("1.0.0")).await;
        lab.power_off();
        lab.broker.publish(ALL, url("1.1.0"), true);
        lab.broker.publish(&format!("ESP32/ota/{DEVICE}/update"), url("1.2.0"), true);
        lab.power_on();
        tokio::time::sleep(HOUR).await;
        let before = starts(&lab);
        for _ in 0..4 {
            lab.power_on();
            tokio::time::sleep(HOUR).await;
        }
        assert!(starts(&lab) <= before + 5, "{} starts", starts(&lab));
        let count = starts(&lab);
        lab.power_on();
        tokio::time::sleep(HOUR).await;
        assert_eq!(starts(&lab), count + 1);
    });
}

#[test]
fn a_new_file_under_the_same_retained_url_is_served() {
    on_each_broker(async |broker| {
        let mut lab = lab_with(broker, &image("1.0.0")).await;
        lab.serve(&image("1.1.0"));
        lab.broker.publish(ALL, "http://files/new.bin", true);
        confirmed(&lab, "1.1.0").await;
        lab.serve(&image("1.2.0"));
        lab.power_on();
        confirmed(&lab, "1.2.0").await;
        lab.serve(&image("1.3.0"));
        lab.broker.publish(ALL, "http://files/new.bin", true);
        confirmed(&lab, "1.3.0").await;
    });
}

#[test]
fn what_was_refused_replaces_nothing() {
    on_each_broker(async |broker| {
        let mut lab = lab_with(broker, &image("1.0.0")).await;
        lab.http.handle(|request| {
            let bytes = if request.path == "/page" { b"<html>".to_vec() } else { self::image("1.1.0") };
            http::file(request, &bytes, "\"x\"")
        });
        lab.broker.publish(ALL, "http://files/new.bin", true);
        confirmed(&lab, "1.1.0").await;
        lab.broker.publish(ALL, "http://files/page", false);
        lab.wait_for(HOUR, |status| status.state == UpdateState::Refused).await.unwrap();
        tokio::time::sleep(Duration::from_secs(60)).await;
        lab.serve(&image("1.2.0"));
        lab.power_on();
        confirmed(&lab, "1.2.0").await;
    });
}

#[test]
fn an_offer_with_a_lower_order_is_passed_over() {
    on_each_broker(async |broker| {
        let lab = lab_with(broker, &image("1.0.0")).await;
        let offer = |version: &str, order: u64| format!(r#"{{"url":"{}","order":{order}}}"#, url(version));
        lab.broker.publish(ALL, offer("1.1.0", 7), false);
        confirmed(&lab, "1.1.0").await;
        lab.broker.publish(ALL, offer("1.2.0", 6), false);
        tokio::time::sleep(HOUR).await;
        assert!(lab.runs("1.1.0"));
        lab.broker.publish(ALL, offer("1.2.0", 8), false);
        confirmed(&lab, "1.2.0").await;
    });
}
