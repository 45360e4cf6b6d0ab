//! Resets of several kinds in one trial or one update: each counts by itself, whatever comes in between.

use std::time::Duration;

use otaru_device::ResetReason;
use otaru_format::status::{Code, Status, UpdateState};
use otaru_sim::bootloader::BootloaderKind;
use otaru_sim::device::Event;
use otaru_sim::firmware::Behaviour;
use otaru_sim::flash::PowerCut;
use otaru_sim::geometry::Geometry;
use otaru_sim::lab::http::{self, Act};
use otaru_sim::lab::{DEVICE, Lab, Setup, firmware, run};

const SIZE: usize = 100_000;
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const BOOTLOADERS: [BootloaderKind; 2] = [BootloaderKind::Plain, BootloaderKind::Rollback];
const ALL: &str = "ESP32/ota/update";

fn starts(lab: &Lab, version: &str) -> usize {
    let of_version = |event: &&Event| matches!(event, Event::Booted { version: v, .. } if v == version);
    lab.events().iter().filter(of_version).count()
}

fn state(lab: &Lab) -> Option<UpdateState> {
    lab.reports().last().map(|status| status.state)
}

#[test]
fn power_cuts_in_a_trial_neither_blame_nor_excuse_the_image() {
    for (bad, code) in [
        (Behaviour::Crash, Code::Panic),
        (Behaviour::Hang, Code::Watchdog),
        (Behaviour::Blocks, Code::Watchdog),
        (Behaviour::Unhealthy, Code::Unhealthy),
    ] {
        for bootloader in BOOTLOADERS {
            run(async {
                let old = firmware("1.0.0", SIZE, Behaviour::Healthy);
                let mut lab = Lab::new(Setup { bootloader, ..Setup::default() }, &old).unwrap();
                lab.serve(&firmware("1.1.0", SIZE, bad));
                lab.power_on();
                lab.ready().await;
                lab.command();
                // As many of its starts as can be caught.
                for cut in 0..12 {
                    let end = tokio::time::Instant::now() + MINUTE;
                    while starts(&lab, "1.1.0") <= cut && tokio::time::Instant::now() < end {
                        tokio::time::sleep(Duration::from_millis(200)).await;
                    }
                    if state(&lab) == Some(UpdateState::RolledBack) {
                        break;
                    }
                    lab.power_on();
                }
                let end = lab.wait_for(24 * HOUR, |status| status.state == UpdateState::RolledBack).await;
                let end = end.unwrap_or_else(|| panic!("{bootloader:?} {bad}: {:?}", lab.reports().last()));
                assert_eq!(end.error.map(|error| error.code), Some(code), "{bootloader:?} {bad}");
            });
        }
    }
}

#[test]
fn an_update_that_the_watchdog_ends_again_and_again_is_given_up() {
    for retained in [false, true] {
        run(async {
            // It lets nothing run any more after an hour, and the download takes longer.
            let old = firmware("1.0.0", SIZE, Behaviour::Seizes);
            let mut lab = Lab::new(Setup::default(), &old).unwrap();
            lab.http.handle(|request| {
                let bytes = firmware("1.1.0", 1_900_000, Behaviour::Healthy);
                let mut acts = http::file(request, &bytes, "\"slow\"");
                if let Some(Act::Send(body)) = acts.pop() {
                    acts.push(Act::Drip { bytes: body, step: 512, pause: Duration::from_secs(3) });
                }
                acts
            });
            lab.power_on();
            lab.ready().await;
            lab.broker.publish(ALL, "http://files/new.bin", retained);
            // What is no command changes no count.
            for _ in 0..20 {
                for noise in [&b"{\"url\""[..], b"", &[b'x'; 900]] {
                    tokio::time::sleep(13 * MINUTE).await;
                    lab.broker.publish(&format!("ESP32/ota/{DEVICE}/update"), noise, false);
                }
            }
            let reports = lab.reports();
            let failed: Vec<Code> = reports
                .iter()
                .filter(|status| status.state == UpdateState::Failed)
                .filter_map(|status| status.error.as_ref().map(|error| error.code))
                .collect();
            assert!(!failed.is_empty() && failed.iter().all(|code| *code == Code::Crashed), "{failed:?}");
            let watchdog =
                |event: &Event| matches!(event, Event::Booted { reason: ResetReason::Watchdog, .. });
            assert!(lab.events().iter().filter(|event| watchdog(event)).count() > 3);
            let requests = lab.http.requests().len();
            tokio::time::sleep(5 * HOUR).await;
            assert_eq!(lab.http.requests().len(), requests, "nothing begins it again");
        });
    }
}

#[test]
fn power_that_goes_while_a_failure_is_noted_hides_no_failure() {
    for (bad, code) in [(Behaviour::Crash, Code::Panic), (Behaviour::Unhealthy, Code::Unhealthy)] {
        for bootloader in BOOTLOADERS {
            // Every change from the first start of the new image on, until there is none any more.
            for operation in 0.. {
                let cuts: Vec<bool> = [0, 9, 100, 4096]
                    .into_iter()
                    .map(|byte| {
                        run(async {
                            let old = firmware("1.0.0", SIZE, Behaviour::Healthy);
                            let mut lab = Lab::new(Setup { bootloader, ..Setup::default() }, &old).unwrap();
                            lab.serve(&firmware("1.1.0", SIZE, bad));
                            lab.power_on();
                            lab.ready().await;
                            lab.command();
                            while starts(&lab, "1.1.0") == 0 {
                                tokio::time::sleep(Duration::from_millis(1)).await;
                            }
                            lab.flash.cut_at(PowerCut { operation, byte });
                            tokio::time::sleep(5 * MINUTE).await;
                            let lost = lab.flash.power_lost();
                            if lost {
                                lab.power_on();
                                tokio::time::sleep(HOUR).await;
                            }
                            lab.flash.restore_power();
                            let end = lab.reports().pop().unwrap();
                            let told = end.error.as_ref().map(|error| error.code);
                            let what = format!("{bad} {bootloader:?}, byte {byte} of operation {operation}");
                            assert_eq!((end.state, told), (UpdateState::RolledBack, Some(code)), "{what}");
                            assert_eq!(end.version, "1.0.0", "{what}");
                            // It is barred.
                            let begun = starts(&lab, "1.1.0");
                            let again = lab.update(HOUR).await.unwrap();
                            let told = again.error.map(|error| error.code);
                            assert_eq!(
                                (again.state, told),
                                (UpdateState::Refused, Some(Code::FailedBefore)),
                                "{what}"
                            );
                            assert_eq!(starts(&lab, "1.1.0"), begun, "{what}");
                            lost
                        })
                    })
                    .collect();
                if !cuts.contains(&true) {
                    assert!(operation > 3, "some changes are made");
                    break;
                }
            }
        }
    }
}

#[test]
fn a_retained_command_that_ends_in_crashes_makes_no_loop_where_nothing_is_remembered() {
    // The running image crashes in the update; the new one browns out, and crashes.
    let cases = [
        (Behaviour::CrashInUpdate, Behaviour::Healthy),
        (Behaviour::Healthy, Behaviour::Brownout),
        (Behaviour::Healthy, Behaviour::Crash),
    ];
    for (old, new) in cases {
        for bootloader in BOOTLOADERS {
            run(async {
                let old = firmware("1.0.0", 200_000, old);
                let geometry = Geometry::default().without_state();
                let mut lab = Lab::new(Setup { bootloader, geometry, ..Setup::default() }, &old).unwrap();
                lab.serve(&firmware("1.1.0", 200_000, new));
                lab.power_on();
                lab.ready().await;
                lab.broker.publish(ALL, "http://files/new.bin", true);
                tokio::time::sleep(HOUR).await;
                let boots = |lab: &Lab| starts(lab, "1.0.0") + starts(lab, "1.1.0");
                let (begun, fetched) = (boots(&lab), lab.http.requests().len());
                let what = format!("{new} {bootloader:?}: {begun} starts, {fetched} requests");
                // One that browns out has twenty starts.
                assert!(begun <= 25 && fetched <= 3, "{what}");
                tokio::time::sleep(5 * HOUR).await;
                assert_eq!((boots(&lab), lab.http.requests().len()), (begun, fetched), "{what}");
                // It is heard, and a command that is given now is followed. So small an image crashes nothing.
                lab.serve(&firmware("1.2.0", 20_000, Behaviour::Healthy));
                lab.command();
                let done = |status: &Status<String>| status.version == "1.2.0" && status.confirmed;
                let end = lab.wait_for(HOUR, done).await;
                assert!(end.is_some_and(|end| done(&end)), "{what}: {:?}", lab.reports().last());
            });
        }
    }
}

#[test]
fn commands_that_are_delivered_again_in_their_order_end_with_the_newest() {
    run(async {
        let mut lab = Lab::new(Setup::default(), &firmware("1.0.0", SIZE, Behaviour::Healthy)).unwrap();
        lab.http.handle(|request| {
            let version = request.path.trim_start_matches('/').trim_end_matches(".bin").to_owned();
            http::file(request, &firmware(&version, SIZE, Behaviour::Healthy), &format!("\"{version}\""))
        });
        lab.power_on();
        lab.ready().await;
        lab.broker.forget_acknowledgements(true);
        for version in ["1.1.0", "1.2.0", "1.3.0"] {
            lab.broker.publish(ALL, format!("http://files/{version}.bin"), false);
        }
        for _ in 0..5 {
            tokio::time::sleep(HOUR).await;
            assert!(
                lab.runs("1.3.0") || state(&lab) == Some(UpdateState::Current),
                "{:?}",
                lab.reports().last()
            );
            lab.power_on();
            lab.ready().await;
        }
        assert_eq!((starts(&lab, "1.1.0"), starts(&lab, "1.2.0")), (0, 0));
    });
}
