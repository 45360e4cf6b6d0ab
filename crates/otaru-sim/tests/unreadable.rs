//! Flash that is torn, unreadable for a while, or smaller than usual, where a device keeps what it must not forget.
#![expect(clippy::unwrap_used, reason = "a scenario that cannot be set up has failed")]

use std::ops::Range;
use std::time::Duration;

use otaru_format::partition::{self, TABLE_LEN, TABLE_OFFSET};
use otaru_format::status::{Code, Status, UpdateState};
use otaru_sim::bootloader::BootloaderKind;
use otaru_sim::firmware::Behaviour;
use otaru_sim::flash::PowerCut;
use otaru_sim::lab::release::{Key, Recipe};
use otaru_sim::lab::{Lab, Setup, firmware, run};

const SIZE: usize = 40_000;
const LONG: Duration = Duration::from_secs(3600);
/// The two copies of the guards, and the memory behind them.
const COPIES: [Range<u32>; 2] = [0x1_0000..0x1_1000, 0x1_1000..0x1_2000];
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
    for bootloader in [BootloaderKind::Plain, BootloaderKind::Rollback] {
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
fn partitions_with_room_for_a_memory_guard_and_are_not_left() {
    for kib in [16, 20, 24, 28, 32] {
        run(async {
            let lab = Lab::new(setup(BootloaderKind::Plain), &image("1.0.0")).unwrap();
            let mut layout = partition::default_layout().to_vec();
            layout.iter_mut().filter(|part| part.label == "otaru").for_each(|part| part.size = kib << 10);
            let mut table = [0; TABLE_LEN];
            partition::emit(&layout, &mut table).unwrap();
            lab.flash.provision(TABLE_OFFSET, &table).unwrap();
            let mut lab = guarded(lab).await;
            start(&mut lab).await;
            still_guarded(&lab, 20, &[2], &format!("{kib} KiB")).await;
            let behind = &lab.flash.contents().unwrap()[0x1_0000 + (kib << 10) as usize..0x2_0000];
            assert!(behind.iter().all(|byte| *byte == 0xFF), "{kib} KiB");
        });
    }
}
