//! Power fails at every flash operation of a whole update, and inside operations at chosen bytes: at every byte
//! of otadata writes, at sampled bytes of the rest, or at all of them with `OTARU_POWER_CUT=exhaustive`.
//!
//! After each cut the device must boot a valid image, and must end on the new one without any report of a
//! failure. Images are written over an older one, so that erases happen too.
//!
//! One update is recorded ([`recording`]), and each cut begins with the restart, over the flash as the cut leaves it ([`proof`]). That
//! this is how a real cut leaves it, and that things go on in the same way, is a test of its own.
#![expect(clippy::unwrap_used, reason = "a scenario that cannot be set up has failed")]

mod proof;
mod recording;

use std::cell::RefCell;
use std::sync::LazyLock;
use std::time::Duration;

use otaru_format::chip::Chip;
use otaru_format::digest::Digest;
use otaru_format::image::{DescriptorFields, ImageFields};
use otaru_format::otadata::SECTOR_LEN;
use otaru_format::status::{Status, UpdateState};
use otaru_sim::bootloader::BootloaderKind;
use otaru_sim::device::Event;
use otaru_sim::flash::{Operation, PowerCut};
use otaru_sim::lab::broker::Message;
use otaru_sim::lab::release::{Key, Recipe};
use otaru_sim::lab::{DEVICE, Lab, PROJECT, Setup, run};
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};

use proof::Proof;
use recording::Recording;

/// One 64 KiB block and two sectors.
const SIZE: usize = 70_000;
const OLD_AND_NEW: [&str; 2] = ["1.0.0", "1.1.0"];
const REPEATED: usize = 900;
const OTADATA: std::ops::Range<u32> = 0xE000..0xE000 + 2 * SECTOR_LEN;
const SLOT_1: u32 = 0x21_0000;
const BOOTLOADERS: [BootloaderKind; 2] = [BootloaderKind::Plain, BootloaderKind::Rollback];
/// Whom devices trust that take only what is signed.
static KEYS: LazyLock<[[u8; 32]; 1]> = LazyLock::new(|| [Key(1).public()]);
const LIMIT: Duration = Duration::from_secs(4 * 3600);

/// What is served: the image and the file it comes in.
struct Offered {
    name: &'static str,
    /// The image that runs before.
    old: Vec<u8>,
    image: Vec<u8>,
    file: Vec<u8>,
    /// Whether devices take only what is signed.
    signed: bool,
}

impl Offered {
    fn bare() -> Self {
        let [old, image] = OLD_AND_NEW.map(|version| firmware(version, SIZE, REPEATED));
        Self { name: "bare image", old, file: image.clone(), image, signed: false }
    }

    /// A signed release, of which the compressed payload is taken.
    fn release() -> Self {
        let file = Recipe::new("1.1.0", 5).make(&Self::bare().image).unwrap();
        Self { name: "signed release", file, signed: true, ..Self::bare() }
    }

    /// The same with a patch for the image that runs, which is taken.
    fn delta() -> Self {
        let [old, image] = OLD_AND_NEW.map(|version| firmware(version, SIZE, SIZE));
        let patch = otaru_delta::encode(&old, &image).unwrap();
        let recipe = Recipe { patches: vec![(Digest::of(&old), patch)], ..Recipe::new("1.1.0", 5) };
        Self { name: "delta", file: recipe.make(&image).unwrap(), old, image, signed: true }
    }
}

/// An image that begins with some bytes of its own, and goes on with what all have: so many bytes, numbered and repeated, so that no
/// two pages are the same. Few bytes repeated often are unpacked in no time, and many make a small patch that copies the old image.
fn firmware(version: &str, size: usize, repeated: usize) -> Vec<u8> {
    let digest = Digest::of(version.as_bytes());
    let descriptor = DescriptorFields { project: PROJECT, version, secure_version: 0, elf_sha256: digest };
    let noise = |seed: u8, len: usize| {
        let mut bytes = vec![0; len];
        SmallRng::from_seed([seed; 32]).fill(&mut bytes[..]);
        bytes
    };
    let mut code = noise(digest.0[0], usize::from(digest.0[1]) * 4 + 256);
    let pattern = noise(0, repeated);
    for number in (0_u32..).take_while(|number| *number as usize * repeated < size) {
        code.extend(number.to_le_bytes());
        code.extend(&pattern);
    }
    code.truncate(size);
    let segments = &[(0x3C00_0020, &code[..64]), (0x4038_0000, &code[64..])];
    ImageFields { chip: Chip::Esp32C3, descriptor, segments, hash_appended: true }.emit()
}

fn setup(bootloader: BootloaderKind, new: &Offered) -> Setup {
    let mut setup = Setup { bootloader, ..Setup::default() };
    if new.signed {
        setup.config.allow_unsigned = false;
        setup.config.keys = &*KEYS;
    }
    setup
}

/// A lab before the update, whose device is off.
fn flashed(bootloader: BootloaderKind, new: &Offered) -> Lab {
    let lab = Lab::new(setup(bootloader, new), &new.old).unwrap();
    lab.flash.provision(SLOT_1, &firmware("0.9.0", SIZE + 9000, SIZE)).unwrap();
    lab.serve(&new.file);
    lab.broker.publish(&format!("ESP32/ota/{DEVICE}/update"), "http://files/new.bin", true);
    lab
}

/// A lab whose device lost power in its update, after everything that was under way has arrived.
async fn lose_power(bootloader: BootloaderKind, new: &Offered, cut: PowerCut) -> Lab {
    let mut lab = flashed(bootloader, new);
    lab.power_on();
    lab.flash.cut_at(cut);
    let lost = tokio::time::timeout(LIMIT, lab.flash.wait_power_lost()).await;
    assert!(lost.is_ok(), "{cut:?} did not happen");
    tokio::time::sleep(Duration::from_secs(1)).await;
    lab
}

/// Waits until the new image says that it runs and that its retained command is done, in a message behind the first `said`.
async fn settle(lab: &Lab, said: usize) {
    let topic = format!("ESP32/ota/{DEVICE}/status");
    let done = |message: &Message| {
        let status = serde_json::from_str(&message.payload);
        let done =
            |status: &Status<String>| status.version == "1.1.0" && status.state == UpdateState::Current;
        message.topic == topic && status.is_ok_and(|status| done(&status))
    };
    let mut seen = said;
    let end = lab.broker.wait_until(|messages| {
        let new = messages[seen..].iter().any(done);
        seen = messages.len();
        new
    });
    let end = tokio::time::timeout(LIMIT, end).await;
    assert!(end.is_ok(), "did not end on the new image: {:?}", lab.reports().last());
}

/// Lives through the cuts, one boot each, and must then end well.
fn survive(bootloader: BootloaderKind, new: &Offered, cuts: &[PowerCut]) {
    run(async {
        let mut lab = flashed(bootloader, new);
        for cut in cuts {
            let lost = lab.events().len();
            lab.power_on();
            lab.flash.cut_at(*cut);
            tokio::select! {
                () = lab.flash.wait_power_lost() => {}
                () = settle(&lab, 0) => break, // No such operation any more: the update was done.
            }
            tokio::task::yield_now().await;
            assert!(lab.events()[lost..].iter().all(|event| *event != Event::NothingBootable), "{cuts:?}");
        }
        let said = lab.broker.messages().len();
        lab.power_on();
        settle(&lab, said).await;
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
    assert!(lab.flash.holds(SLOT_1, new).unwrap(), "the slot differs after {cuts:?}");
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
    let recording = Recording::of(bootloader, new);
    let operations = || recording.changes.iter().map(|change| &change.operation);
    let kinds = operations().map(|operation| (operation.erase, operation.offset >= SLOT_1));
    assert_eq!(
        kinds.collect::<std::collections::HashSet<_>>().len(),
        4,
        "erases and writes in slot and state"
    );
    let bytes_of = |operation: &Operation| bytes_of(operation, exhaustive);
    let total = operations().map(|operation| bytes_of(operation).len() as u64).sum();
    let mut proof = Proof::new(bootloader, new, total, if exhaustive { 1000 } else { 50 });
    recording.each_cut(bytes_of, |left| proof.take(left));
    proof.finish(&recording);
}

#[test]
fn power_cut_for_real_leaves_and_does_what_is_built_from_a_recording() {
    let kinds = [Offered::bare(), Offered::release(), Offered::delta()];
    for (new, bootloader) in kinds.iter().flat_map(|new| BOOTLOADERS.map(|kind| (new, kind))) {
        let recording = Recording::of(bootloader, new);
        let mut rng = SmallRng::seed_from_u64(recording.changes.len() as u64);
        let sample = RefCell::new(&mut rng);
        let bytes_of = |operation: &Operation| {
            let mut rng = sample.borrow_mut();
            let few = if operation.erase { 3 } else { 1 };
            let mut bytes: Vec<u32> = (0..few).map(|_| rng.random_range(0..=operation.len)).collect();
            bytes.sort_unstable();
            if operation.erase || rng.random_bool(0.1) { bytes } else { Vec::new() }
        };
        recording.each_cut(bytes_of, |built| {
            let what = format!("{bootloader:?} bootloader, {}, {:?}", new.name, built.cut);
            let course_of_built = proof::restart(bootloader, new, built).1;
            run(async {
                let mut lab = lose_power(bootloader, new, built.cut).await;
                assert!(lab.flash.holds(0, built.moment.contents()).unwrap(), "{what}");
                assert_eq!(lab.broker.memory(), *built.memory, "{what}");
                let (done, said) = (lab.flash.operations().len(), lab.broker.messages().len());
                lab.power_on();
                settle(&lab, said).await;
                check(&lab, &new.image, &[built.cut]);
                assert_eq!(proof::course(&lab, done, said), course_of_built, "{what}");
            });
        });
    }
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
