//! Facts that a device must not forget: the newest release it had and the keys that were revoked, whatever happens to its flash.
#![expect(clippy::unwrap_used, reason = "a scenario that cannot be set up has failed")]

use std::time::Duration;

use otaru_format::release::KeyId;
use otaru_format::status::{Code, Status, UpdateState};
use otaru_sim::firmware::Behaviour;
use otaru_sim::geometry::Geometry;
use otaru_sim::lab::release::{Key, Recipe};
use otaru_sim::lab::{Lab, Setup, firmware, run};

const SIZE: usize = 40_000;
const LONG: Duration = Duration::from_secs(3600);
/// The `otaru` partition: two copies of the guards, the memory, the settings.
const COPIES: [u32; 2] = [0x1_0000, 0x1_1000];
const MEMORY: std::ops::Range<u32> = 0x1_2000..0x1_4000;

fn image(version: &str) -> Vec<u8> {
    firmware(version, SIZE, Behaviour::Healthy)
}

async fn lab() -> Lab {
    let mut setup = Setup::default();
    setup.config.allow_unsigned = false;
    setup.config.keys = Box::leak(Box::new([Key(1).public(), Key(2).public()]));
    let mut lab = Lab::new(setup, &image("1.0.0")).unwrap();
    lab.power_on();
    lab.ready().await;
    lab
}

async fn update(lab: &Lab, recipe: &Recipe) -> Status<String> {
    lab.serve(&recipe.make(&image(&recipe.version)).unwrap());
    lab.update(LONG).await.unwrap()
}

fn code(status: &Status<String>) -> Option<Code> {
    status.error.as_ref().map(|error| error.code)
}

/// Fills a part of the flash while the device is off.
async fn damage(lab: &mut Lab, part: std::ops::Range<u32>, with: u8) {
    lab.power_off();
    lab.flash.provision(part.start, &vec![with; part.len()]).unwrap();
    lab.power_on();
    lab.ready().await;
    tokio::time::sleep(Duration::from_secs(5)).await;
}

/// A device that has had release 20, which revoked key 2.
async fn guarded() -> Lab {
    let lab = lab().await;
    let end = update(&lab, &Recipe { revoked: vec![Key(2).id()], ..Recipe::new("1.2.0", 20) }).await;
    assert_eq!(end.version, "1.2.0");
    lab
}

async fn still_guarded(lab: &Lab, what: &str) {
    let old = update(lab, &Recipe::new("1.3.0", 19)).await;
    assert_eq!((old.state, code(&old)), (UpdateState::Refused, Some(Code::Downgrade)), "{what}");
    let revoked = update(lab, &Recipe { key: Some(Key(2)), ..Recipe::new("1.3.0", 30) }).await;
    assert_eq!((revoked.state, code(&revoked)), (UpdateState::Refused, Some(Code::RevokedKey)), "{what}");
    assert!(!revoked.guards_lost, "{what}");
}

#[test]
fn either_copy_may_be_damaged_and_is_mended() {
    run(async {
        for first in [0, 1] {
            let mut lab = guarded().await;
            for (copy, with) in [(first, 0x5A), (1 - first, 0xFF), (first, 0)] {
                damage(&mut lab, COPIES[copy]..COPIES[copy] + 4096, with).await;
                still_guarded(&lab, &format!("copy {copy} filled with {with:#x}")).await;
            }
        }
    });
}

#[test]
fn a_damaged_memory_erases_no_guards() {
    run(async {
        for with in [0, 0x5A, 0xFF] {
            let mut lab = guarded().await;
            damage(&mut lab, MEMORY, with).await;
            still_guarded(&lab, &format!("memory filled with {with:#x}")).await;
            assert_eq!(update(&lab, &Recipe::new("1.4.0", 31)).await.version, "1.4.0");
        }
    });
}

#[test]
fn guards_that_are_lost_are_told_and_nothing_older_than_what_runs_is_taken() {
    run(async {
        for with in [0, 0x5A, 0xFF] {
            let mut lab = guarded().await;
            damage(&mut lab, COPIES[0]..COPIES[1] + 4096, with).await;
            assert!(lab.reports().last().unwrap().guards_lost, "{with:#x}");
            let old = update(&lab, &Recipe::new("1.1.0", 99)).await;
            assert_eq!((old.state, code(&old)), (UpdateState::Refused, Some(Code::Downgrade)), "{with:#x}");
            let new = update(&lab, &Recipe::new("1.3.0", 30)).await;
            assert_eq!((new.version.as_str(), new.guards_lost), ("1.3.0", false), "{with:#x}");
            let old = update(&lab, &Recipe::new("1.4.0", 29)).await;
            assert_eq!(code(&old), Some(Code::Downgrade), "{with:#x}");
        }
    });
}

#[test]
fn a_new_device_has_lost_nothing() {
    run(async {
        let lab = lab().await;
        assert!(!lab.reports().last().unwrap().guards_lost);
        assert_eq!(update(&lab, &Recipe::new("0.9.0", 1)).await.version, "0.9.0");
    });
}

#[test]
fn a_layout_without_room_tells_that_it_has_no_guards() {
    run(async {
        let geometry = Geometry::default().without_state();
        let mut setup = Setup { geometry, ..Setup::default() };
        setup.config.keys = Box::leak(Box::new([Key(1).public()]));
        let mut lab = Lab::new(setup, &image("1.0.0")).unwrap();
        lab.power_on();
        lab.ready().await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!(lab.reports().last().unwrap().guards_lost);
        let old = update(&lab, &Recipe::new("0.9.0", 5)).await;
        assert_eq!((old.state, code(&old)), (UpdateState::Refused, Some(Code::Downgrade)));
        assert_eq!(update(&lab, &Recipe::new("1.1.0", 5)).await.version, "1.1.0");
    });
}

#[test]
fn sixteen_revoked_keys_are_kept_and_a_seventeenth_is_refused_before_anything_is_written() {
    run(async {
        let lab = lab().await;
        let keys = |from: u8| (from..from + 4).map(|number| KeyId([number; 8])).collect::<Vec<_>>();
        for (number, from) in [(1, 10), (2, 14), (3, 18)] {
            let version = format!("1.{number}.0");
            let end = update(&lab, &Recipe { revoked: keys(from), ..Recipe::new(&version, number) }).await;
            assert_eq!(end.version, version);
        }
        let last = [keys(22)[..3].to_vec(), vec![Key(2).id()]].concat();
        let end = update(&lab, &Recipe { revoked: last, ..Recipe::new("1.4.0", 4) }).await;
        assert_eq!(end.version, "1.4.0");
        let erased = lab.flash.counts().block_erases;
        let end = update(&lab, &Recipe { revoked: vec![KeyId([99; 8])], ..Recipe::new("1.5.0", 5) }).await;
        assert_eq!((end.state, code(&end)), (UpdateState::Refused, Some(Code::NoRoom)));
        assert_eq!(lab.flash.counts().block_erases, erased);
        // The sixteenth is kept as well as the first.
        let revoked = update(&lab, &Recipe { key: Some(Key(2)), ..Recipe::new("1.6.0", 6) }).await;
        assert_eq!(code(&revoked), Some(Code::RevokedKey));
        // Keys that are revoked already need no room.
        let end = update(&lab, &Recipe { revoked: keys(10), ..Recipe::new("1.7.0", 7) }).await;
        assert_eq!(end.version, "1.7.0");
    });
}
