//! Faults from outside are never booked against an image: a broker that is away, refuses or has moved, and power that goes.
#![expect(clippy::unwrap_used, reason = "a scenario that cannot be set up has failed")]

use std::time::Duration;

use otaru_format::status::{Code, Status, UpdateState};
use otaru_sim::bootloader::BootloaderKind;
use otaru_sim::device::Event;
use otaru_sim::firmware::Behaviour;
use otaru_sim::geometry::Geometry;
use otaru_sim::lab::dialect::VersionRefusal;
use otaru_sim::lab::http;
use otaru_sim::lab::{Lab, Setup, firmware, on_each_broker};

const SIZE: usize = 100_000;
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
const ALL: &str = "ESP32/ota/update";
const BOOTLOADERS: [BootloaderKind; 2] = [BootloaderKind::Plain, BootloaderKind::Rollback];

async fn lab(only_311: Option<VersionRefusal>, bootloader: BootloaderKind) -> Lab {
    let old = firmware("1.0.0", SIZE, Behaviour::Healthy);
    let mut lab = Lab::new(Setup { bootloader, only_311, ..Setup::default() }, &old).unwrap();
    lab.serve(&firmware("1.1.0", SIZE, Behaviour::Healthy));
    lab.power_on();
    lab.ready().await;
    lab
}

fn code(status: &Status<String>) -> (UpdateState, Option<Code>) {
    (status.state, status.error.as_ref().map(|error| error.code))
}

/// Counts the starts of this version.
fn boots(lab: &Lab, version: &str) -> usize {
    lab.events()
        .iter()
        .filter(|event| matches!(event, Event::Booted { version: v, .. } if v == version))
        .count()
}

/// Waits until this version has been started so often; says whether it was, within `limit`.
async fn booted(lab: &Lab, version: &str, count: usize, limit: Duration) -> bool {
    let end = tokio::time::Instant::now() + limit;
    while tokio::time::Instant::now() < end {
        if boots(lab, version) >= count {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    false
}

/// Takes the broker away at the moment at which the image is started for the `count`th time; says whether that came within `limit`.
async fn away_at_start(lab: &Lab, count: usize, limit: Duration) -> bool {
    let restarts = lab.broker.wait_until(|messages| {
        messages.iter().filter(|message| message.payload.contains(r#""state":"restarting""#)).count() >= count
    });
    let came = tokio::time::timeout(limit, restarts).await.is_ok();
    lab.broker.away(true);
    came
}

/// The newest report.
fn last(lab: &Lab) -> Status<String> {
    lab.reports().pop().unwrap()
}

#[test]
fn an_image_whose_broker_was_away_is_tried_again_without_a_download() {
    for bootloader in BOOTLOADERS {
        on_each_broker(async |broker| {
            let lab = lab(broker, bootloader).await;
            lab.command();
            assert!(away_at_start(&lab, 1, HOUR).await);
            assert!(booted(&lab, "1.0.0", 2, HOUR).await, "it goes back once");
            tokio::time::sleep(HOUR).await;
            assert_eq!(boots(&lab, "1.1.0"), 1, "nothing is tried while nobody is heard");
            let sent = lab.http.sent();
            lab.broker.away(false);
            let waiting = lab.wait_for(HOUR, |status| status.state == UpdateState::Retrying).await.unwrap();
            assert_eq!(code(&waiting), (UpdateState::Retrying, Some(Code::Unreachable)), "{waiting:?}");
            assert!(waiting.error.unwrap().detail.contains("trial 2 of 5"));
            assert_eq!(waiting.version, "1.0.0");
            tokio::time::sleep(Duration::from_secs(550)).await;
            assert_eq!(boots(&lab, "1.1.0"), 1, "not before the broker was there for ten minutes");
            let end = lab.wait_for(HOUR, |status| status.state == UpdateState::Confirmed).await.unwrap();
            assert_eq!(end.version, "1.1.0");
            assert_eq!(lab.http.sent(), sent, "the image was still in its slot");
        });
    }
}

#[test]
fn an_attacker_who_takes_the_broker_away_gets_five_short_absences_and_bars_nothing() {
    on_each_broker(async |broker| {
        let lab = lab(broker, BootloaderKind::Plain).await;
        lab.broker.publish(ALL, "http://files/new.bin", true);
        for trial in 1..=5 {
            assert!(away_at_start(&lab, trial, 2 * DAY).await, "trial {trial}");
            assert!(booted(&lab, "1.0.0", trial + 1, HOUR).await);
            lab.broker.away(false);
        }
        let end = lab.wait_for(HOUR, |status| status.state == UpdateState::Failed).await.unwrap();
        assert_eq!(code(&end), (UpdateState::Failed, Some(Code::Unreachable)));
        // The retained copy, delivered again and again, starts nothing.
        for _ in 0..20 {
            lab.broker.away(true);
            tokio::time::sleep(HOUR).await;
            lab.broker.away(false);
            tokio::time::sleep(HOUR).await;
        }
        assert_eq!(boots(&lab, "1.1.0"), 5);
        // A person's new publication does.
        assert_eq!(lab.update(HOUR).await.unwrap().state, UpdateState::Confirmed);
        assert!(lab.runs("1.1.0"));
    });
}

#[test]
fn what_was_given_up_stays_given_up_over_a_loss_of_power_and_is_told_again() {
    on_each_broker(async |broker| {
        let mut lab = lab(broker, BootloaderKind::Rollback).await;
        lab.broker.publish(ALL, "http://files/new.bin", true);
        for trial in 1..=5 {
            assert!(away_at_start(&lab, trial, 2 * DAY).await, "trial {trial}");
            assert!(booted(&lab, "1.0.0", trial + 1, HOUR).await);
            lab.broker.away(false);
        }
        tokio::time::sleep(HOUR).await;
        for _ in 0..3 {
            lab.power_on();
            lab.ready().await;
            tokio::time::sleep(HOUR).await;
            assert_eq!(code(&last(&lab)), (UpdateState::Failed, Some(Code::Unreachable)));
        }
        // A fresh publication that loses power is begun again all the same.
        lab.command();
        tokio::time::sleep(Duration::from_secs(1)).await;
        lab.power_on();
        assert!(lab.wait_for(HOUR, |status| status.state == UpdateState::Confirmed).await.is_some());
    });
}

#[test]
fn a_fleet_whose_broker_moved_is_saved_by_the_image_that_knows_the_new_one() {
    on_each_broker(async |broker| {
        let lab = lab(broker, BootloaderKind::Plain).await;
        lab.command();
        assert!(away_at_start(&lab, 1, HOUR).await);
        assert!(booted(&lab, "1.0.0", 2, HOUR).await);
        // The old image never hears anybody again; the new one would.
        assert!(booted(&lab, "1.1.0", 2, 25 * HOUR).await, "once a day");
        lab.broker.away(false);
        assert!(lab.wait_for(HOUR, |status| status.state == UpdateState::Confirmed).await.is_some());
        assert!(lab.runs("1.1.0"));
    });
}

#[test]
fn a_broker_that_is_never_found_gets_five_trials_a_day_apart() {
    on_each_broker(async |broker| {
        let lab = lab(broker, BootloaderKind::Plain).await;
        lab.command();
        assert!(away_at_start(&lab, 1, HOUR).await);
        assert!(booted(&lab, "1.0.0", 2, HOUR).await);
        for days in 1..5 {
            tokio::time::sleep(DAY - HOUR).await;
            assert_eq!(boots(&lab, "1.1.0"), days, "before day {days} is over");
            assert!(booted(&lab, "1.1.0", days + 1, 2 * HOUR).await, "after day {days}");
            assert!(booted(&lab, "1.0.0", days + 2, HOUR).await);
        }
        tokio::time::sleep(5 * DAY).await;
        assert_eq!(boots(&lab, "1.1.0"), 5);
    });
}

#[test]
fn the_pauses_between_trials_grow_while_the_old_image_is_heard() {
    on_each_broker(async |broker| {
        let lab = lab(broker, BootloaderKind::Plain).await;
        lab.command();
        for (trial, minutes) in (1..).zip([10, 60, 360, 1440]) {
            assert!(away_at_start(&lab, trial, 2 * DAY).await, "trial {trial}");
            assert!(booted(&lab, "1.0.0", trial + 1, HOUR).await);
            lab.broker.away(false);
            tokio::time::sleep(Duration::from_secs((minutes - 1) * 60)).await;
            assert_eq!(boots(&lab, "1.1.0"), trial, "{minutes} minutes are not over");
        }
    });
}

#[test]
fn nothing_is_activated_before_the_old_image_is_heard() {
    on_each_broker(async |broker| {
        let lab = lab(broker, BootloaderKind::Plain).await;
        lab.broker.refuse_reports(true);
        lab.command();
        tokio::time::sleep(2 * HOUR).await;
        assert_eq!(boots(&lab, "1.1.0"), 0, "an access list that forbids reports");
        assert!(lab.http.sent() > SIZE as u64, "downloading does not wait");
        lab.broker.refuse_reports(false);
        lab.broker.away(true);
        tokio::time::sleep(2 * HOUR).await;
        assert_eq!(boots(&lab, "1.1.0"), 0, "a broker that is away");
        lab.broker.away(false);
        assert!(lab.wait_for(HOUR, |status| status.state == UpdateState::Confirmed).await.is_some());
    });
}

#[test]
fn a_cancelled_wait_starts_nothing_and_another_command_replaces_it() {
    for cancel in [true, false] {
        on_each_broker(async |broker| {
            let lab = lab(broker, BootloaderKind::Plain).await;
            lab.command();
            assert!(away_at_start(&lab, 1, HOUR).await);
            assert!(booted(&lab, "1.0.0", 2, HOUR).await);
            lab.broker.away(false);
            lab.wait_for(HOUR, |status| status.state == UpdateState::Retrying).await.unwrap();
            if cancel {
                lab.broker.publish(ALL, "cancel", false);
                tokio::time::sleep(2 * DAY).await;
                assert_eq!((boots(&lab, "1.1.0"), last(&lab).state), (1, UpdateState::Cancelled));
            } else {
                lab.serve(&firmware("1.2.0", SIZE, Behaviour::Healthy));
                lab.broker.publish(ALL, "http://files/newer.bin", false);
                tokio::time::sleep(2 * DAY).await;
                assert_eq!(boots(&lab, "1.1.0"), 1);
                assert!(lab.runs("1.2.0"));
            }
        });
    }
}

#[test]
fn a_command_that_is_refused_does_not_end_the_wait() {
    on_each_broker(async |broker| {
        let lab = lab(broker, BootloaderKind::Plain).await;
        lab.http.handle(|request| {
            let bytes = if request.path == "/page" {
                b"<html>".to_vec()
            } else {
                firmware("1.1.0", SIZE, Behaviour::Healthy)
            };
            http::file(request, &bytes, "\"x\"")
        });
        lab.command();
        assert!(away_at_start(&lab, 1, HOUR).await);
        assert!(booted(&lab, "1.0.0", 2, HOUR).await);
        lab.broker.away(false);
        lab.wait_for(HOUR, |status| status.state == UpdateState::Retrying).await.unwrap();
        lab.broker.publish(ALL, "http://files/page", false);
        lab.wait_for(HOUR, |status| status.state == UpdateState::Refused).await.unwrap();
        assert!(lab.wait_for(HOUR, |status| status.state == UpdateState::Confirmed).await.is_some());
        assert!(lab.runs("1.1.0"));
    });
}

#[test]
fn power_cuts_do_not_use_up_the_starts_of_a_trial() {
    on_each_broker(async |broker| {
        let mut lab = lab(broker, BootloaderKind::Plain).await;
        lab.command();
        assert!(away_at_start(&lab, 1, HOUR).await);
        for _ in 0..10 {
            tokio::time::sleep(Duration::from_secs(60)).await;
            lab.power_on();
        }
        tokio::time::sleep(Duration::from_secs(60)).await;
        lab.broker.away(false);
        assert!(lab.wait_for(HOUR, |status| status.state == UpdateState::Confirmed).await.is_some());
        assert_eq!(boots(&lab, "1.0.0"), 1, "it never had to go back");
    });
}

#[test]
fn an_image_that_browns_out_goes_after_twenty_starts_and_is_not_barred() {
    for bootloader in BOOTLOADERS {
        on_each_broker(async |broker| {
            let mut lab = lab(broker, bootloader).await;
            lab.serve(&firmware("1.1.0", SIZE, Behaviour::Brownout));
            lab.broker.publish(ALL, "http://files/new.bin", true);
            let end = lab.wait_for(DAY, |status| status.state == UpdateState::RolledBack).await;
            let end = end
                .unwrap_or_else(|| panic!("{bootloader:?}: {:?} {:?}", lab.events(), lab.reports().last()));
            assert_eq!(
                code(&end),
                (UpdateState::RolledBack, Some(Code::PowerLoss)),
                "{bootloader:?}: {end:?}"
            );
            let (told, detail) = (end.failed.as_ref().unwrap().boots, &end.error.as_ref().unwrap().detail);
            assert_eq!(told, 20, "{bootloader:?}: {end:?}");
            assert!(
                detail.starts_with("power went in each of its starts (boots: 20"),
                "{bootloader:?}: {detail}"
            );
            let count = boots(&lab, "1.1.0");
            assert!((20..=21).contains(&count), "{bootloader:?}: {count} starts");
            tokio::time::sleep(DAY).await;
            lab.power_on();
            lab.ready().await;
            tokio::time::sleep(DAY).await;
            assert_eq!(boots(&lab, "1.1.0"), count, "{bootloader:?}: no copy starts it again");
            // With a better supply.
            lab.serve(&firmware("1.1.0", SIZE, Behaviour::Healthy));
            lab.command();
            assert!(lab.wait_for(DAY, |status| status.state == UpdateState::Confirmed).await.is_some());
        });
    }
}

#[test]
fn without_a_memory_no_more_losses_of_power_are_told_than_there_were() {
    on_each_broker(async |broker| {
        let old = firmware("1.0.0", SIZE, Behaviour::Healthy);
        let geometry = Geometry::default().without_state();
        let (bootloader, only_311) = (BootloaderKind::Rollback, broker);
        let setup = Setup { bootloader, geometry, only_311, ..Setup::default() };
        let mut lab = Lab::new(setup, &old).unwrap();
        lab.serve(&firmware("1.1.0", SIZE, Behaviour::Brownout));
        lab.power_on();
        lab.ready().await;
        lab.command();
        let end = lab.wait_for(DAY, |status| status.state == UpdateState::RolledBack).await.unwrap();
        assert_eq!(code(&end), (UpdateState::RolledBack, Some(Code::PowerLoss)));
        let (told, detail) = (end.failed.as_ref().unwrap().boots, &end.error.as_ref().unwrap().detail);
        assert_eq!((usize::from(told), told), (boots(&lab, "1.1.0"), 1), "{detail}");
        assert!(detail.contains("(boots: 1,"), "{detail}");
    });
}
