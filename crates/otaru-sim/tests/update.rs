//! The way of an update, from a command to its end, on a good network.
#![expect(clippy::unwrap_used, reason = "a scenario that cannot be set up has failed")]

use std::time::Duration;

use otaru_device::ResetReason;
use otaru_format::status::{Code, Status, UpdateState};
use otaru_sim::bootloader::BootloaderKind;
use otaru_sim::device::{Event, FREE_HEAP};
use otaru_sim::firmware::Behaviour;
use otaru_sim::lab::http::{Act, head};
use otaru_sim::lab::{Lab, Setup, firmware, run};

const SIZE: usize = 300_000;
const LONG: Duration = Duration::from_secs(3600);
const BOOTLOADERS: [BootloaderKind; 2] = [BootloaderKind::Plain, BootloaderKind::Rollback];

fn old() -> Vec<u8> {
    firmware("1.0.0", SIZE, Behaviour::Healthy)
}

async fn lab(bootloader: BootloaderKind) -> Lab {
    let mut lab = Lab::new(Setup { bootloader, ..Setup::default() }, &old()).unwrap();
    lab.power_on();
    lab.ready().await;
    lab
}

#[test]
fn a_good_image_is_installed_and_confirmed() {
    for bootloader in BOOTLOADERS {
        run(async {
            let lab = lab(bootloader).await;
            let new = firmware("1.1.0", SIZE, Behaviour::Healthy);
            lab.serve(&new);
            let end = lab.update(LONG).await.unwrap();
            assert_eq!((end.state, end.version.as_str(), end.slot), (UpdateState::Confirmed, "1.1.0", 1));
            assert!(lab.runs("1.1.0"));
            let slot = &lab.flash.contents().unwrap()[0x21_0000..][..new.len()];
            assert_eq!(slot, new);
            let lines = lab.lines();
            let expected = [
                "Starting OTA update...",
                "OTA Progress: 50%",
                "OTA Progress: 100%",
                "Update Complete. Restarting...",
            ];
            let mut rest = lines.iter();
            for line in expected {
                assert!(rest.any(|have| have == line), "{line} is missing or out of order in {lines:?}");
            }
        });
    }
}

#[test]
fn free_memory_is_in_every_report_and_reported_once_an_hour() {
    run(async {
        let lab = lab(BootloaderKind::Plain).await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        let first = lab.reports().len();
        tokio::time::sleep(Duration::from_secs(5 * 3600)).await;
        let reports = lab.reports();
        assert_eq!(reports.len(), first + 5, "one an hour");
        let known = reports.iter().skip(1).all(|report| report.free_heap == Some(FREE_HEAP));
        assert!(known && reports.iter().all(|report| report.free_stack.is_none()), "{reports:?}");
    });
}

#[test]
fn a_bad_image_is_rolled_back_and_explained() {
    let cases = [
        (Behaviour::Crash, Code::Panic, "called `Option::unwrap()`"),
        (Behaviour::Hang, Code::Watchdog, ""),
        (Behaviour::Blocks, Code::Watchdog, ""),
        (Behaviour::Unhealthy, Code::Unhealthy, "sensor does not answer"),
    ];
    for bootloader in BOOTLOADERS {
        for (behaviour, code, words) in cases {
            run(async {
                let lab = lab(bootloader).await;
                lab.serve(&firmware("1.1.0", SIZE, behaviour));
                let end = lab.update(LONG).await.unwrap();
                assert_eq!(end.state, UpdateState::RolledBack, "{bootloader:?} {behaviour}");
                let error = end.error.unwrap();
                assert_eq!(error.code, code, "{bootloader:?} {behaviour}: {}", error.detail);
                assert!(error.detail.contains(words), "{}", error.detail);
                let failed = end.failed.unwrap();
                let counted = bootloader == BootloaderKind::Plain
                    && matches!(behaviour, Behaviour::Crash | Behaviour::Hang | Behaviour::Blocks);
                assert_eq!((failed.version.as_str(), failed.boots), ("1.1.0", if counted { 3 } else { 1 }));
                assert!(lab.runs("1.0.0"));

                let again = lab.update(LONG).await.unwrap();
                assert_eq!(again.state, UpdateState::Refused);
                assert_eq!(again.error.unwrap().code, Code::FailedBefore);

                lab.serve(&firmware("1.2.0", SIZE, Behaviour::Healthy));
                assert_eq!(lab.update(LONG).await.unwrap().version, "1.2.0");
                assert!(lab.runs("1.2.0"));
            });
        }
    }
}

#[test]
fn a_confirmed_image_that_seizes_up_is_reset_and_kept() {
    run(async {
        let lab = lab(BootloaderKind::Plain).await;
        lab.serve(&firmware("1.1.0", SIZE, Behaviour::Seizes));
        assert_eq!(lab.update(LONG).await.unwrap().state, UpdateState::Confirmed);
        tokio::time::sleep(Duration::from_secs(5 * 3600)).await;
        let events = lab.events();
        let resets = events.iter().filter(|event| {
            matches!(event, Event::Booted { version, reason: ResetReason::Watchdog, .. } if version == "1.1.0")
        });
        assert!((4..=5).contains(&resets.count()), "{events:?}");
        assert!(lab.runs("1.1.0"));
    });
}

#[test]
fn the_running_image_is_not_installed_again() {
    run(async {
        let lab = lab(BootloaderKind::Plain).await;
        lab.serve(&old());
        let erased = lab.flash.counts().block_erases;
        assert_eq!(lab.update(LONG).await.unwrap().state, UpdateState::Current);
        assert_eq!(lab.flash.counts().block_erases, erased);
    });
}

#[test]
fn progress_alone_is_reported_once_a_second() {
    run(async {
        let lab = lab(BootloaderKind::Plain).await;
        let new = firmware("1.1.0", SIZE, Behaviour::Healthy);
        lab.http.handle(move |_| {
            let pause = Duration::from_millis(50);
            let drip = Act::Drip { bytes: new.clone(), step: 1000, pause };
            vec![head(200, &[("Content-Length", &new.len().to_string())]), drip]
        });
        lab.update(LONG).await.unwrap();
        let statuses = lab.broker.messages().into_iter().filter(|m| m.topic.ends_with("/status"));
        let told: Vec<(Duration, Status<String>)> =
            statuses.map(|m| (m.at, serde_json::from_str(&m.payload).unwrap())).collect();
        let mut count = 0;
        for pair in told.windows(2) {
            let [(before, first), (at, second)] = pair else { continue };
            let mere = first.state == UpdateState::Downloading && second.state == first.state;
            if mere && second.progress != Some(100) {
                // The network may carry one of them faster than the other.
                assert!(
                    *at - *before >= Duration::from_millis(800),
                    "{first:?} at {before:?}, {second:?} at {at:?}"
                );
                count += 1;
            }
        }
        assert!((5..=20).contains(&count), "{count} reports in a download of 15 seconds");
        let lines = lab.lines();
        for percent in (10..=100).step_by(10) {
            assert!(lines.contains(&format!("OTA Progress: {percent}%")), "{percent}% in {lines:?}");
        }
    });
}
