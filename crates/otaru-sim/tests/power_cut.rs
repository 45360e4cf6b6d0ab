//! Power fails at every flash operation of a whole update, and inside operations at chosen bytes: at every byte
//! of otadata writes, at sampled bytes of the rest, or at all of them with `OTARU_POWER_CUT=exhaustive`.
//!
//! After each cut the device must boot a valid image, and must end on the new one without any report of a
//! failure. Images are written over an older one, so that erases happen too.
#![expect(clippy::unwrap_used, reason = "a scenario that cannot be set up has failed")]

use std::time::Duration;

use otaru_format::digest::Digest;
use otaru_format::otadata::SECTOR_LEN;
use otaru_format::status::UpdateState;
use otaru_sim::bootloader::BootloaderKind;
use otaru_sim::device::Event;
use otaru_sim::firmware::Behaviour;
use otaru_sim::flash::{Operation, PowerCut};
use otaru_sim::lab::release::{Key, Recipe};
use otaru_sim::lab::{DEVICE, Lab, Setup, firmware, run};
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};

/// One 64 KiB block and two sectors.
const SIZE: usize = 70_000;
const OTADATA: std::ops::Range<u32> = 0xE000..0xE000 + 2 * SECTOR_LEN;
const SLOT_1: u32 = 0x21_0000;
const LIMIT: Duration = Duration::from_secs(4 * 3600);

/// What is served: the image and the file it comes in.
struct Offered {
    name: &'static str,
    image: Vec<u8>,
    file: Vec<u8>,
    /// Whether devices take only what is signed.
    signed: bool,
}

impl Offered {
    fn bare() -> Self {
        let image = firmware("1.1.0", SIZE, Behaviour::Healthy);
        Self { name: "bare image", file: image.clone(), image, signed: false }
    }

    /// A signed release, of which the compressed payload is taken.
    fn release() -> Self {
        let image = firmware("1.1.0", SIZE, Behaviour::Healthy);
        let file = Recipe::new("1.1.0", 5).make(&image).unwrap();
        Self { name: "signed release", image, file, signed: true }
    }

    /// The same with a patch for the image that runs, which is taken.
    fn delta() -> Self {
        let image = firmware("1.1.0", SIZE, Behaviour::Healthy);
        let old = running();
        let patch = otaru_delta::encode(&old, &image).unwrap();
        let recipe = Recipe { patches: vec![(Digest::of(&old), patch)], ..Recipe::new("1.1.0", 5) };
        Self { name: "delta", file: recipe.make(&image).unwrap(), image, signed: true }
    }
}

/// The image that runs before the update.
fn running() -> Vec<u8> {
    firmware("1.0.0", SIZE, Behaviour::Healthy)
}

fn lab(bootloader: BootloaderKind, new: &Offered) -> Lab {
    let mut setup = Setup { bootloader, ..Setup::default() };
    if new.signed {
        setup.config.allow_unsigned = false;
        setup.config.keys = Box::leak(Box::new([Key(1).public()]));
    }
    let lab = Lab::new(setup, &running()).unwrap();
    lab.flash.provision(SLOT_1, &firmware("0.9.0", SIZE + 9000, Behaviour::Healthy)).unwrap();
    lab.serve(&new.file);
    lab.broker.publish(&format!("ESP32/ota/{DEVICE}/update"), "http://files/new.bin", true);
    lab
}

/// The changing operations of an update that nothing disturbs.
fn operations(bootloader: BootloaderKind, new: &Offered) -> Vec<Operation> {
    run(async {
        let mut lab = lab(bootloader, new);
        lab.power_on();
        settle(&lab).await;
        lab.flash.operations()
    })
}

/// Waits until the new image is confirmed and its retained command was seen to be done.
async fn settle(lab: &Lab) {
    let done = |status: &otaru_format::status::Status<String>| {
        status.version == "1.1.0" && status.state == UpdateState::Current
    };
    let end = lab.wait_for(LIMIT, done).await;
    assert!(end.is_some(), "did not end on the new image: {:?}", lab.reports().last());
}

/// Lives through the cuts, one boot each, and must then end well.
fn survive(bootloader: BootloaderKind, new: &Offered, cuts: &[PowerCut]) {
    run(async {
        let mut lab = lab(bootloader, new);
        for cut in cuts {
            let lost = lab.events().len();
            lab.power_on();
            lab.flash.cut_at(*cut);
            tokio::select! {
                () = lab.flash.wait_power_lost() => {}
                () = settle(&lab) => break, // No such operation any more: the update was done.
            }
            tokio::task::yield_now().await;
            assert!(lab.events()[lost..].iter().all(|event| *event != Event::NothingBootable), "{cuts:?}");
        }
        lab.power_on();
        settle(&lab).await;
        check(&lab, &new.image, cuts);
    });
}

fn check(lab: &Lab, new: &[u8], cuts: &[PowerCut]) {
    assert!(!lab.events().contains(&Event::NothingBootable), "bricked by {cuts:?}");
    for report in lab.reports() {
        let bad = matches!(
            report.state,
            UpdateState::RolledBack | UpdateState::Failed | UpdateState::Refused | UpdateState::Cancelled
        );
        assert!(!bad, "a false report after {cuts:?}: {report:?}");
        let honest = report.state != UpdateState::Confirmed || report.version == "1.1.0";
        assert!(honest, "a false success after {cuts:?}: {report:?}");
    }
    let flash = lab.flash.contents().unwrap();
    assert!(flash[SLOT_1 as usize..].starts_with(new), "the slot differs after {cuts:?}");
}

/// The bytes of an operation at which power is cut. The last is after the whole operation.
fn bytes_of(operation: &Operation, exhaustive: bool) -> Vec<u32> {
    let len = operation.len;
    if exhaustive || (OTADATA.contains(&operation.offset) && !operation.erase) {
        (0..=len).collect()
    } else {
        vec![0, 1, len / 2, len - 1, len]
    }
}

fn prove(bootloader: BootloaderKind, new: &Offered) {
    let exhaustive = std::env::var("OTARU_POWER_CUT").is_ok_and(|mode| mode == "exhaustive");
    let operations = operations(bootloader, new);
    let kinds = operations.iter().map(|operation| (operation.erase, operation.offset >= SLOT_1));
    assert_eq!(
        kinds.collect::<std::collections::HashSet<_>>().len(),
        4,
        "erases and writes in slot and state"
    );
    let mut count = 0;
    for (index, operation) in operations.iter().enumerate() {
        for byte in bytes_of(operation, exhaustive) {
            survive(bootloader, new, &[PowerCut { operation: index as u64, byte }]);
            count += 1;
        }
        if exhaustive && index % 10 == 0 {
            eprintln!("{bootloader:?}: {count} cuts, operation {index} of {}", operations.len());
        }
    }
    println!(
        "power cut, {bootloader:?} bootloader, {}: {count} cuts in {} flash operations; every device came back and \
         ended on the new image",
        new.name,
        operations.len()
    );
}

#[test]
fn power_cut_anywhere_with_a_plain_bootloader() {
    prove(BootloaderKind::Plain, &Offered::bare());
}

#[test]
fn power_cut_anywhere_with_a_bootloader_that_rolls_back() {
    prove(BootloaderKind::Rollback, &Offered::bare());
}

#[test]
fn power_cut_anywhere_in_a_release_with_a_plain_bootloader() {
    prove(BootloaderKind::Plain, &Offered::release());
}

#[test]
fn power_cut_anywhere_in_a_release_with_a_bootloader_that_rolls_back() {
    prove(BootloaderKind::Rollback, &Offered::release());
}

#[test]
fn power_cut_anywhere_in_a_delta_with_a_plain_bootloader() {
    prove(BootloaderKind::Plain, &Offered::delta());
}

#[test]
fn power_cut_anywhere_in_a_delta_with_a_bootloader_that_rolls_back() {
    prove(BootloaderKind::Rollback, &Offered::delta());
}

#[test]
fn power_cut_again_and_again() {
    let offered = [Offered::bare(), Offered::release(), Offered::delta()];
    let mut count = 0;
    for seed in 0..300 {
        let mut rng = SmallRng::seed_from_u64(seed);
        let bootloader = if seed % 2 == 0 { BootloaderKind::Plain } else { BootloaderKind::Rollback };
        let cuts: Vec<PowerCut> = (0..rng.random_range(2..6))
            .map(|_| PowerCut { operation: rng.random_range(0..340), byte: rng.random_range(0..256) })
            .collect();
        count += cuts.len();
        survive(bootloader, &offered[(seed / 2) as usize % offered.len()], &cuts);
    }
    println!("power cut: {count} cuts in 300 updates; every device came back and ended on the new image");
}
