//! Flash that is torn, unreadable for a while, or smaller than usual, where a device keeps what it must not forget.
#![expect(clippy::unwrap_used, reason = "a scenario that cannot be set up has failed")]

use std::ops::Range;
use std::time::Duration;

use otaru_format::status::{Code, Status, UpdateState};
use otaru_sim::bootloader::BootloaderKind;
use otaru_sim::device::Event;
use otaru_sim::firmware::Behaviour;
use otaru_sim::flash::PowerCut;
use otaru_sim::geometry::Geometry;
use otaru_sim::lab::release::{Key, Recipe};
use otaru_sim::lab::{Lab, Setup, firmware, run};

const SIZE: usize = 40_000;
const LONG: Duration = Duration::from_secs(3600);
/// The two copies of the guards, and the memory behind them.
const COPIES: [Range<u32>; 2] = [0x1_0000..0x1_1000, 0x1_1000..0x1_2000];
const GUARDS: Range<u32> = COPIES[0].start..COPIES[1].end;
const OTADATA: Range<u32> = 0xE000..0x1_0000;
const OTADATA_LEN: usize = 0x2000;
const BOOTLOADERS: [BootloaderKind; 2] = [BootloaderKind::Plain, BootloaderKind::Rollback];
const MEMORY: Range<u32> = 0x1_2000..0x1_4000;

fn image(version: &str) -> Vec<u8> {
    firmware(version, SIZE, Behaviour::Healthy)
}

fn setup(bootloader: BootloaderKind) -> Setup {
    let mut setup = Setup { bootloader, ..Setup::default() };
    setup.config.allow_unsigned = false;
    setup.config.keys = Box::leak(Box::new([Key(1).public(), Key(2).public(), Key(3).public()]));
    setup
}

async fn seconds(count: u64) {
    tokio::time::sleep(Duration::from_secs(count)).await;
}

async fn start(lab: &mut Lab) {
    lab.power_on();
    lab.ready().await;
    seconds(30).await;
}

async fn update(lab: &Lab, recipe: &Recipe) -> Status<String> {
    lab.serve(&recipe.make(&image(&recipe.version)).unwrap());
    lab.update(LONG).await.unwrap()
}

fn refusal(status: &Status<String>) -> (UpdateState, Option<Code>) {
    (status.state, status.error.as_ref().map(|error| error.code))
}

/// A lab whose `otaru` partition has this length.
fn lab_with(kib: u32) -> Lab {
    let mut geometry = Geometry::default();
    let parts = geometry.partitions.iter_mut();
    parts.filter(|part| part.label == "otaru").for_each(|part| part.size = kib << 10);
    Lab::new(Setup { geometry, ..setup(BootloaderKind::Plain) }, &image("1.0.0")).unwrap()
}

fn untouched_behind(lab: &Lab, kib: u32) -> bool {
    let behind = &lab.flash.contents().unwrap()[0x1_0000 + (kib << 10) as usize..0x2_0000];
    behind.iter().all(|byte| *byte == 0xFF)
}

fn last(lab: &Lab) -> Status<String> {
    lab.reports().pop().unwrap()
}

fn starts(lab: &Lab, version: &str) -> usize {
    let of_version = |event: &&Event| matches!(event, Event::Booted { version: v, .. } if v == version);
    lab.events().iter().filter(of_version).count()
}

/// A device that has had release 20, which revoked key 2.
async fn guarded(mut lab: Lab) -> Lab {
    start(&mut lab).await;
    let end = update(&lab, &Recipe { revoked: vec![Key(2).id()], ..Recipe::new("1.2.0", 20) }).await;
    assert_eq!(end.version, "1.2.0");
    seconds(60).await;
    lab
}

fn release_30() -> Recipe {
    Recipe { revoked: vec![Key(3).id()], ..Recipe::new("1.3.0", 30) }
}

async fn still_guarded(lab: &Lab, sequence: u64, keys: &[u8], what: &str) {
    let old = update(lab, &Recipe::new("1.9.0", sequence - 1)).await;
    assert_eq!(refusal(&old), (UpdateState::Refused, Some(Code::Downgrade)), "{what}");
    assert!(!old.guards_lost, "{what}");
    for key in keys {
        let revoked = update(lab, &Recipe { key: Some(Key(*key)), ..Recipe::new("1.9.0", 100) }).await;
        assert_eq!(refusal(&revoked), (UpdateState::Refused, Some(Code::RevokedKey)), "{what}");
    }
}

#[test]
fn no_loss_of_power_while_guards_are_written_takes_them() {
    for bootloader in BOOTLOADERS {
        let new = || Lab::new(setup(bootloader), &image("1.0.0")).unwrap();
        // The changing operations of an update that write guards: two erases, two records.
        let operations: Vec<_> = run(async {
            let lab = guarded(new()).await;
            let before = lab.flash.operations().len();
            update(&lab, &release_30()).await;
            seconds(60).await;
            let all = lab.flash.operations();
            let is_guard = |offset| COPIES.iter().any(|copy| copy.contains(&offset));
            (0..)
                .zip(&all[before..])
                .filter(|(_, op)| is_guard(op.offset))
                .map(|(at, op)| (at, *op))
                .collect()
        });
        assert_eq!(operations.len(), 4, "{operations:?}");
        for (operation, written) in operations {
            let len = written.len;
            // Magic, sequence, keys, product, checksum.
            let places =
                if written.erase { vec![0, 212, len] } else { vec![0, 3, 9, 60, 180, 209, len - 1, len] };
            for byte in places {
                run(async {
                    let mut lab = guarded(new()).await;
                    lab.flash.cut_at(PowerCut { operation, byte });
                    lab.serve(&release_30().make(&image("1.3.0")).unwrap());
                    lab.command();
                    seconds(120).await;
                    assert!(lab.flash.power_lost());
                    start(&mut lab).await;
                    let what = format!("{bootloader:?}, byte {byte} of operation {operation}");
                    assert!(lab.runs("1.3.0"), "{what}: {:?}", lab.reports().last());
                    still_guarded(&lab, 30, &[2, 3], &what).await;
                });
            }
        }
    }
}

#[test]
fn a_copy_that_cannot_be_read_for_a_while_costs_nothing() {
    for copy in COPIES {
        run(async {
            let mut lab = guarded(Lab::new(setup(BootloaderKind::Plain), &image("1.0.0")).unwrap()).await;
            // While the next release is confirmed, and at a start.
            lab.serve(&release_30().make(&image("1.3.0")).unwrap());
            lab.command();
            lab.wait_for(LONG, |status| status.state == UpdateState::Restarting).await.unwrap();
            lab.flash.fail_reads(copy.clone());
            lab.wait_for(LONG, |status| status.state == UpdateState::Confirmed).await.unwrap();
            start(&mut lab).await;
            still_guarded(&lab, 30, &[2, 3], &format!("{copy:x?}, unreadable")).await;
            lab.flash.fail_reads(0..0);
            start(&mut lab).await;
            still_guarded(&lab, 30, &[2, 3], &format!("{copy:x?}, readable again")).await;
        });
    }
}

#[test]
fn a_memory_that_cannot_be_read_for_a_while_is_not_erased() {
    run(async {
        let mut lab = guarded(Lab::new(setup(BootloaderKind::Plain), &image("1.0.0")).unwrap()).await;
        let bad = firmware("1.3.0", SIZE, Behaviour::Crash);
        lab.serve(&release_30().make(&bad).unwrap());
        assert_eq!(lab.update(LONG).await.unwrap().state, UpdateState::RolledBack);
        seconds(60).await;
        lab.flash.fail_reads(MEMORY);
        start(&mut lab).await;
        lab.flash.fail_reads(0..0);
        start(&mut lab).await;
        let end = lab.update(LONG).await.unwrap();
        assert_eq!(refusal(&end), (UpdateState::Refused, Some(Code::FailedBefore)));
        still_guarded(&lab, 20, &[2], "memory").await;
    });
}

#[test]
fn guards_that_cannot_be_read_at_a_confirmation_are_not_begun_anew() {
    // Neither copy, or one of them while the other one is damaged.
    for (unreadable, damaged) in [
        (GUARDS, None),
        (COPIES[0].clone(), Some(COPIES[1].start)),
        (COPIES[1].clone(), Some(COPIES[0].start)),
    ] {
        run(async {
            let mut lab = guarded(Lab::new(setup(BootloaderKind::Plain), &image("1.0.0")).unwrap()).await;
            lab.serve(&release_30().make(&image("1.3.0")).unwrap());
            lab.command();
            lab.wait_for(LONG, |status| status.state == UpdateState::Restarting).await.unwrap();
            if let Some(damaged) = damaged {
                lab.flash.provision(damaged, &[0x5A; 4096]).unwrap();
            }
            lab.flash.fail_reads(unreadable.clone());
            lab.wait_for(LONG, |status| status.state == UpdateState::Confirmed).await.unwrap();
            start(&mut lab).await;
            assert!(last(&lab).guards_lost, "told for as long as {unreadable:x?} cannot be read");
            // What the release said is learned at a start that can read them.
            lab.flash.fail_reads(0..0);
            start(&mut lab).await;
            assert!(!last(&lab).guards_lost);
            still_guarded(&lab, 30, &[2, 3], &format!("{unreadable:x?}")).await;
        });
    }
}

#[test]
fn guards_that_cannot_be_read_at_a_start_are_not_begun_anew() {
    // As a cable leaves otadata that somebody erased, or as it was.
    for (blank, part) in [false, true]
        .iter()
        .flat_map(|blank| [GUARDS, COPIES[0].clone(), COPIES[1].clone()].map(|part| (*blank, part)))
    {
        run(async {
            let mut lab = guarded(Lab::new(setup(BootloaderKind::Plain), &image("1.0.0")).unwrap()).await;
            // So that the newest image stands where a device without otadata starts.
            assert_eq!(update(&lab, &Recipe::new("1.3.0", 30)).await.version, "1.3.0");
            seconds(60).await;
            lab.power_off();
            if blank {
                lab.flash.provision(OTADATA.start, &[0xFF; OTADATA_LEN]).unwrap();
            }
            lab.flash.fail_reads(part.clone());
            start(&mut lab).await;
            assert_eq!(last(&lab).guards_lost, part == GUARDS);
            lab.flash.fail_reads(0..0);
            start(&mut lab).await;
            still_guarded(&lab, 30, &[2], &format!("{part:x?}, otadata blank: {blank}")).await;
        });
    }
}

#[test]
fn guards_damaged_together_with_otadata_are_lost_and_told() {
    for with in [0, 0x5A] {
        for part in [OTADATA, OTADATA.start..GUARDS.end] {
            run(async {
                let mut lab = guarded(Lab::new(setup(BootloaderKind::Plain), &image("1.0.0")).unwrap()).await;
                assert_eq!(update(&lab, &Recipe::new("1.3.0", 30)).await.version, "1.3.0");
                seconds(60).await;
                lab.power_off();
                lab.flash.provision(part.start, &vec![with; part.len()]).unwrap();
                start(&mut lab).await;
                let what = format!("{part:x?} filled with {with:#x}");
                if part == OTADATA {
                    return still_guarded(&lab, 30, &[2], &what).await;
                }
                assert!(last(&lab).guards_lost, "{what}");
                let old = update(&lab, &Recipe::new("1.1.0", 99)).await;
                assert_eq!(refusal(&old), (UpdateState::Refused, Some(Code::Downgrade)), "{what}");
                let new = update(&lab, &Recipe::new("1.4.0", 31)).await;
                assert_eq!((new.version.as_str(), new.guards_lost), ("1.4.0", false), "{what}");
                still_guarded(&lab, 31, &[], &what).await;
            });
        }
    }
}

#[test]
fn otadata_that_cannot_be_read_at_a_confirmation_costs_a_good_image_nothing() {
    // For a while, or until power goes.
    for (seconds_unreadable, retained) in [(20, false), (20, true), (7200, false), (7200, true)] {
        for (bootloader, part) in each_part_of_otadata() {
            run(async {
                let mut lab = Lab::new(setup(bootloader), &image("1.0.0")).unwrap();
                start(&mut lab).await;
                lab.serve(&Recipe::new("1.1.0", 5).make(&image("1.1.0")).unwrap());
                lab.broker.publish("ESP32/ota/update", "http://files/new.bin", retained);
                while starts(&lab, "1.1.0") == 0 {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                // It has looked at otadata by then, and has not been heard.
                tokio::time::sleep(Duration::from_millis(13)).await;
                lab.flash.fail_reads(part.clone());
                seconds(seconds_unreadable).await;
                let what = format!("{bootloader:?}, {part:x?}, {seconds_unreadable} s, retained: {retained}");
                let told = last(&lab);
                assert_eq!(refusal(&told), (UpdateState::Trial, Some(Code::Flash)), "{what}");
                assert!(!told.confirmed, "{what}");
                // It is tried each minute, and told once.
                let told = lab.lines().iter().filter(|line| line.starts_with("ERROR: flash")).count();
                assert_eq!(told, 1, "{what}: {:?}", lab.lines());
                lab.flash.fail_reads(0..0);
                if seconds_unreadable == 20 {
                    seconds(300).await;
                    assert!(lab.runs("1.1.0"), "{what}: {:?}", last(&lab));
                    // The copy of a retained command is told to have nothing to do.
                    let good = if retained { UpdateState::Current } else { UpdateState::Confirmed };
                    assert_eq!(refusal(&last(&lab)), (good, None), "{what}");
                }
                for _ in 0..2 {
                    lab.power_on();
                    seconds(3600).await;
                    assert!(lab.runs("1.1.0"), "{what}: {:?}", last(&lab));
                }
                let rolled_back = |status: &Status<String>| status.state == UpdateState::RolledBack;
                assert!(!lab.reports().iter().any(rolled_back), "{what}");
                let old = update(&lab, &Recipe::new("1.2.0", 4)).await;
                assert_eq!(refusal(&old), (UpdateState::Refused, Some(Code::Downgrade)), "{what}");
            });
        }
    }
}

#[test]
fn an_activation_that_cannot_be_read_back_starts_nothing_later() {
    for (bootloader, part) in each_part_of_otadata() {
        for behaviour in [Behaviour::Healthy, Behaviour::Crash] {
            run(async {
                let mut lab = Lab::new(setup(bootloader), &image("1.0.0")).unwrap();
                start(&mut lab).await;
                lab.serve(&Recipe::new("1.1.0", 5).make(&firmware("1.1.0", SIZE, behaviour)).unwrap());
                // It stands in the slot, and waits until it is heard that the broker takes reports.
                lab.broker.refuse_reports(true);
                lab.command();
                seconds(60).await;
                lab.flash.fail_reads(part.clone());
                lab.broker.refuse_reports(false);
                lab.lan.reset_connections();
                let failed = |status: &Status<String>| status.state == UpdateState::Failed;
                let end = lab.wait_for(LONG, failed).await.unwrap();
                let what = format!("{bootloader:?}, {part:x?}, {behaviour}");
                assert_eq!(refusal(&end), (UpdateState::Failed, Some(Code::Flash)), "{what}");
                lab.flash.fail_reads(0..0);
                for _ in 0..2 {
                    seconds(3600).await;
                    lab.power_on();
                }
                seconds(3600).await;
                assert_eq!(starts(&lab, "1.1.0"), 0, "{what}");
                // The same command given once more is followed.
                let end = lab.update(LONG).await.unwrap();
                let wanted = match behaviour {
                    Behaviour::Healthy => UpdateState::Confirmed,
                    _ => UpdateState::RolledBack,
                };
                assert_eq!(end.state, wanted, "{what}");
            });
        }
    }
}

fn each_part_of_otadata() -> impl Iterator<Item = (BootloaderKind, Range<u32>)> {
    let middle = OTADATA.start + 0x1000;
    let parts = [OTADATA.start..middle, middle..OTADATA.end, OTADATA];
    BOOTLOADERS.into_iter().flat_map(move |kind| parts.clone().map(|part| (kind, part)))
}

#[test]
fn partitions_with_room_for_a_memory_guard_and_are_not_left() {
    for kib in [16, 20, 24, 28, 32] {
        run(async {
            let mut lab = guarded(lab_with(kib)).await;
            start(&mut lab).await;
            still_guarded(&lab, 20, &[2], &format!("{kib} KiB")).await;
            assert!(untouched_behind(&lab, kib), "{kib} KiB");
        });
    }
}

#[test]
fn partitions_without_room_for_a_memory_tell_that_they_guard_nothing_but_the_version() {
    for kib in [4, 8, 12] {
        run(async {
            let mut lab = guarded(lab_with(kib)).await;
            for _ in 0..2 {
                assert!(last(&lab).guards_lost, "{kib} KiB");
                let old = update(&lab, &Recipe::new("1.1.0", 99)).await;
                assert_eq!(refusal(&old), (UpdateState::Refused, Some(Code::Downgrade)), "{kib} KiB");
                start(&mut lab).await;
            }
            let new = update(&lab, &Recipe::new("1.3.0", 19)).await;
            assert_eq!((new.version.as_str(), new.guards_lost), ("1.3.0", true), "{kib} KiB");
            assert!(untouched_behind(&lab, kib), "{kib} KiB");
        });
    }
}
