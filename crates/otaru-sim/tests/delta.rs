//! Deltas: what they cost, where they go on after a loss of power, and that whatever is wrong with one, the image still
//! arrives.
#![expect(clippy::unwrap_used, reason = "a scenario that cannot be set up has failed")]

use std::time::Duration;

use otaru_format::digest::Digest;
use otaru_format::status::{Status, UpdateState};
use otaru_sim::firmware::Behaviour;
use otaru_sim::lab::release::{Key, Recipe};
use otaru_sim::lab::{Lab, Setup, firmware, run};

const SIZE: usize = 200_000;
const LONG: Duration = Duration::from_secs(24 * 3600);
const SLOT_1: usize = 0x21_0000;

fn image(version: &str) -> Vec<u8> {
    firmware(version, SIZE, Behaviour::Healthy)
}

async fn lab() -> Lab {
    let mut setup = Setup::default();
    setup.config.allow_unsigned = false;
    setup.config.keys = Box::leak(Box::new([Key(1).public()]));
    let mut lab = Lab::new(setup, &image("1.0.0")).unwrap();
    lab.power_on();
    lab.ready().await;
    lab
}

fn release(patch: &[u8]) -> Vec<u8> {
    let patches = vec![(Digest::of(&image("1.0.0")), patch.to_vec())];
    Recipe { patches, ..Recipe::new("1.1.0", 5) }.make(&image("1.1.0")).unwrap()
}

async fn update(lab: &Lab, bytes: &[u8]) -> Status<String> {
    lab.serve(bytes);
    lab.update(LONG).await.expect("the update must come to an end")
}

fn is_installed(lab: &Lab, end: &Status<String>) {
    assert_eq!((end.state, end.version.as_str()), (UpdateState::Confirmed, "1.1.0"), "{end:?}");
    assert!(lab.flash.contents().unwrap()[SLOT_1..SLOT_1 + SIZE] == image("1.1.0")[..]);
}

#[test]
fn a_patch_that_is_none_costs_the_image() {
    run(async {
        let lab = lab().await;
        let end = update(&lab, &release(&[0x55; 5000])).await;
        is_installed(&lab, &end);
    });
}
