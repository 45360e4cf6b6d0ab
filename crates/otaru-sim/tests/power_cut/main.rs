//! Power fails at every flash operation of a whole update, and inside operations at chosen bytes: at every byte
//! of otadata writes, at sampled bytes of the rest, or at all of them with `OTARU_POWER_CUT=exhaustive`.
//!
//! After each cut the device must boot a valid image, and must end on the new one without any report of a
//! failure, but for one that is documented. Images are written over an older one, so that erases happen too.
//!
//! All that is done on each geometry of flash. The sample of pages is divided among them; every erase and every write of state is cut
//! on each. `OTARU_GEOMETRY` names one of them; the exhaustive run is on the first, unless that says `all` or another.
//!
//! One update is recorded ([`recording`]), and each cut begins with the restart, over the flash as the cut leaves it ([`proof`]). That
//! this is how a real cut leaves it, and that things go on in the same way, is a test of its own.
#![expect(clippy::unwrap_used, reason = "a scenario that cannot be set up has failed")]

#[path = "../authority/mod.rs"]
mod authority;
mod case;
mod proof;
mod recording;

use std::cell::RefCell;
use std::collections::HashSet;
use std::env;

use otaru_sim::bootloader::BootloaderKind;
use otaru_sim::device::Event;
use otaru_sim::flash::{Operation, PAGE, PowerCut};
use otaru_sim::geometry::Geometry;
use otaru_sim::lab::run;
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};

use case::{Case, Offered};
use proof::Proof;
use recording::Recording;

const BOOTLOADERS: [BootloaderKind; 2] = [BootloaderKind::Plain, BootloaderKind::Rollback];

fn exhaustive() -> bool {
    env::var("OTARU_POWER_CUT").is_ok_and(|mode| mode == "exhaustive")
}

/// The geometries to cut power on.
fn geometries() -> Vec<Geometry> {
    let named = env::var("OTARU_GEOMETRY").ok();
    let few = if exhaustive() { Geometry::default().name } else { "all" };
    let wanted = named.as_deref().unwrap_or(few);
    let mut geometries = Geometry::all().to_vec();
    geometries.retain(|geometry| wanted == "all" || wanted == geometry.name);
    assert!(!geometries.is_empty(), "there is no geometry {wanted:?}");
    geometries
}

/// Cuts that are made on one of several geometries.
#[derive(Clone, Copy)]
enum Cuts {
    /// All.
    Every,
    /// A sample, in which this is the geometry with the number `turn` of so many.
    Sampled { turn: u32, of: u32 },
}

impl Cuts {
    /// The bytes of an operation at which power is cut. The last is after the whole operation.
    fn bytes_of(self, operation: &Operation, geometry: &Geometry) -> Vec<u32> {
        let Operation { erase, offset, len } = *operation;
        match self {
            Self::Every => (0..=len).collect(),
            _ if !erase && geometry.part("otadata").contains(&offset) => (0..=len).collect(),
            Self::Sampled { turn, of }
                if !erase && geometry.first_target().contains(&offset) && offset / PAGE % of != turn =>
            {
                Vec::new()
            }
            Self::Sampled { .. } => vec![0, 1, len / 2, len - 1, len],
        }
    }
}

fn prove(bootloader: BootloaderKind, new: &Offered) {
    let geometries = geometries();
    let of = geometries.len() as u32;
    for (turn, geometry) in (0..).zip(&geometries) {
        let cuts = if exhaustive() { Cuts::Every } else { Cuts::Sampled { turn, of } };
        prove_on(&Case::new(geometry, bootloader, new), cuts);
    }
}

fn prove_on(case: &Case<'_>, cuts: Cuts) {
    let recording = Recording::of(case);
    let operations = || recording.changes.iter().map(|change| &change.operation);
    let slot = case.geometry.first_target();
    let kinds: HashSet<_> =
        operations().map(|change| (change.erase, slot.contains(&change.offset))).collect();
    assert_eq!(kinds.len(), 4, "{case}: erases and writes in slot and state");
    let bytes_of = |operation: &Operation| cuts.bytes_of(operation, case.geometry);
    let total = operations().map(|operation| bytes_of(operation).len() as u64).sum();
    let again_every = if matches!(cuts, Cuts::Every) { 1000 } else { 50 };
    let mut proof = Proof::new(case, total, again_every);
    recording.each_cut(bytes_of, |left| proof.take(left));
    proof.finish(&recording);
}

/// Lives through the cuts, one boot each, and must then end well.
fn survive(case: &Case<'_>, cuts: &[PowerCut]) {
    run(async {
        let mut lab = case.flashed();
        for cut in cuts {
            let lost = lab.events().len();
            lab.power_on();
            lab.flash.cut_at(*cut);
            tokio::select! {
                () = lab.flash.wait_power_lost() => {}
                () = case.settle(&lab, 0) => break, // No such operation any more: the update was done.
            }
            tokio::task::yield_now().await;
            let bricked = lab.events()[lost..].contains(&Event::NothingBootable);
            assert!(!bricked, "{case}: {cuts:?}");
        }
        let said = lab.broker.messages().len();
        lab.power_on();
        case.settle(&lab, said).await;
        case.check(&lab, cuts);
    });
}

/// Cuts power for real at random bytes of a recorded update.
fn cut_for_real(case: &Case<'_>, of: u32) {
    let recording = Recording::of(case);
    let mut rng = SmallRng::seed_from_u64(recording.changes.len() as u64);
    let sample = RefCell::new(&mut rng);
    let bytes_of = |operation: &Operation| {
        let mut rng = sample.borrow_mut();
        let few = if operation.erase { 3_u32.div_ceil(of) } else { 1 };
        let mut bytes: Vec<u32> = (0..few).map(|_| rng.random_range(0..=operation.len)).collect();
        bytes.sort_unstable();
        if operation.erase || rng.random_bool(0.1 / f64::from(of)) { bytes } else { Vec::new() }
    };
    recording.each_cut(bytes_of, |built| {
        let what = format!("{case}, {:?}", built.cut);
        let course_of_built = proof::restart(case, built).1;
        run(async {
            let mut lab = case.lose_power(built.cut).await;
            assert!(lab.flash.holds(0, built.moment.contents()).unwrap(), "{what}");
            assert_eq!(lab.broker.memory(), *built.memory, "{what}");
            let (done, said) = (lab.flash.operations().len(), lab.broker.messages().len());
            lab.power_on();
            case.settle(&lab, said).await;
            case.check(&lab, &[built.cut]);
            assert_eq!(proof::course(&lab, done, said), course_of_built, "{what}");
        });
    });
}

#[test]
fn power_cut_for_real_leaves_and_does_what_is_built_from_a_recording() {
    let (geometries, kinds) = (geometries(), [Offered::bare(), Offered::release(), Offered::delta()]);
    for geometry in &geometries {
        for (new, bootloader) in kinds.iter().flat_map(|new| BOOTLOADERS.map(|kind| (new, kind))) {
            cut_for_real(&Case::new(geometry, bootloader, new), geometries.len() as u32);
        }
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

/// Takes power at random moments of so many updates, divided among all kinds of devices, which are changed so.
fn cut_again_and_again(updates: usize, change: impl Fn(Case<'_>) -> Case<'_>) {
    let (geometries, kinds) = (geometries(), [Offered::bare(), Offered::release(), Offered::delta()]);
    let kinds = || kinds.iter().flat_map(|new| BOOTLOADERS.map(|kind| (new, kind)));
    let cases =
        || geometries.iter().flat_map(|geometry| kinds().map(move |(new, kind)| (geometry, kind, new)));
    let mut count = 0;
    for (first, (geometry, bootloader, new)) in cases().enumerate() {
        let case = change(Case::new(geometry, bootloader, new));
        for seed in (first..updates).step_by(cases().count()) {
            let mut rng = SmallRng::seed_from_u64(seed as u64);
            let cuts: Vec<PowerCut> = (0..rng.random_range(2..6))
                .map(|_| PowerCut { operation: rng.random_range(0..340), byte: rng.random_range(0..256) })
                .collect();
            count += cuts.len();
            survive(&case, &cuts);
        }
    }
    println!(
        "power cut: {count} cuts in {updates} updates; every device came back and ended on the new image"
    );
}

#[test]
fn power_cut_again_and_again() {
    cut_again_and_again(300, |case| case);
}

/// A sample: TLS changes nothing on flash.
#[test]
fn power_cut_again_and_again_in_updates_over_tls() {
    cut_again_and_again(54, |case| case.over_tls());
}
