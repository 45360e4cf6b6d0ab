//! Deltas: what they cost, where they go on after a loss of power, and that whatever is wrong with one, the image still
//! arrives.
#![expect(clippy::unwrap_used, reason = "a scenario that cannot be set up has failed")]

use std::time::Duration;

use otaru_format::digest::Digest;
use otaru_format::release::HEADER_LEN;
use otaru_format::status::{Status, UpdateState};
use otaru_sim::firmware::Behaviour;
use otaru_sim::lab::http::{Act, head};
use otaru_sim::lab::release::{Key, Recipe};
use otaru_sim::lab::{Lab, Setup, firmware, run};

const SIZE: usize = 200_000;
/// Bytes by which the new image is longer.
const GROWTH: usize = 60_000;
const LONG: Duration = Duration::from_secs(24 * 3600);
const SLOT_1: usize = 0x21_0000;
/// Bytes of a block of an image.
const BLOCK: usize = 64 * 1024;
/// Bytes that are on their way when the agent has what it needs, and the headers of a few answers.
const SLACK: usize = 33_000;

fn old() -> Vec<u8> {
    firmware("1.0.0", SIZE, Behaviour::Healthy)
}

fn new() -> Vec<u8> {
    firmware("1.1.0", SIZE + GROWTH, Behaviour::Healthy)
}

fn patch(old: &[u8], new: &[u8]) -> Vec<u8> {
    otaru_delta::encode(old, new).unwrap()
}

/// A release of the new image with these bytes as a patch for the old one.
fn release(patch: &[u8]) -> Vec<u8> {
    let patches = vec![(Digest::of(&old()), patch.to_vec())];
    Recipe { patches, ..Recipe::new("1.1.0", 5) }.make(&new()).unwrap()
}

/// Bytes in front of the payloads.
fn area(release: &[u8]) -> usize {
    HEADER_LEN + u32::from_le_bytes(release[8..12].try_into().unwrap()) as usize
}

/// Bytes of the compressed payload.
fn compressed(release: &[u8], patch: &[u8]) -> usize {
    release.len() - area(release) - patch.len() - new().len()
}

async fn lab_with(image: &[u8]) -> Lab {
    let mut setup = Setup::default();
    setup.config.allow_unsigned = false;
    setup.config.keys = Box::leak(Box::new([Key(1).public()]));
    let mut lab = Lab::new(setup, image).unwrap();
    lab.power_on();
    lab.ready().await;
    lab
}

async fn update(lab: &Lab, bytes: &[u8]) -> Status<String> {
    lab.serve(bytes);
    lab.update(LONG).await.expect("the update must come to an end")
}

fn is_installed(lab: &Lab, end: &Status<String>) {
    assert_eq!((end.state, end.version.as_str()), (UpdateState::Confirmed, "1.1.0"), "{end:?}");
    assert!(lab.flash.contents().unwrap()[SLOT_1..].starts_with(&new()));
}

fn gave_up(lab: &Lab) -> bool {
    lab.lines().iter().any(|line| line.starts_with("The patch is of no use here."))
}

/// Offers this patch; the update must succeed without it. Gives back the bytes that were sent.
fn falls_back(name: &str, bad: &[u8]) -> usize {
    run(async {
        let lab = lab_with(&old()).await;
        let file = release(bad);
        let end = update(&lab, &file).await;
        is_installed(&lab, &end);
        assert!(gave_up(&lab), "{name}: {:?}", lab.lines());
        let sent = lab.http.sent() as usize;
        let needed = area(&file) + bad.len() + compressed(&file, bad);
        println!("{name}: {sent} bytes for a patch of {} and an image of {needed}, compressed", bad.len());
        assert!(sent <= needed + 2 * SLACK, "{name}: {sent} bytes were sent, {needed} are needed");
        sent
    })
}

#[test]
fn a_patch_costs_little_and_makes_the_image() {
    run(async {
        let lab = lab_with(&old()).await;
        let patch = patch(&old(), &new());
        let file = release(&patch);
        assert!(patch.len() * 3 < compressed(&file, &patch), "nothing would be proved");
        let end = update(&lab, &file).await;
        is_installed(&lab, &end);
        assert!(!gave_up(&lab));
        let sent = lab.http.sent() as usize;
        println!("{sent} bytes on the wire for a patch of {}; the image has {}", patch.len(), new().len());
        assert!(sent <= area(&file) + patch.len() + SLACK);
    });
}

#[test]
fn a_server_without_ranges_brings_a_patch_too() {
    run(async {
        let lab = lab_with(&old()).await;
        let file = release(&patch(&old(), &new()));
        lab.http.handle(move |_| {
            vec![head(200, &[("Content-Length", &file.len().to_string())]), Act::Send(file.clone())]
        });
        let end = lab.update(LONG).await.unwrap();
        is_installed(&lab, &end);
        assert!(!gave_up(&lab));
    });
}

#[test]
fn whoever_runs_another_image_fetches_blocks() {
    run(async {
        let lab = lab_with(&firmware("0.9.0", SIZE, Behaviour::Healthy)).await;
        let patch = patch(&old(), &new());
        let file = release(&patch);
        let end = update(&lab, &file).await;
        is_installed(&lab, &end);
        assert!(!gave_up(&lab), "it was not even tried");
        assert!(lab.http.sent() as usize > compressed(&file, &patch));
    });
}

#[test]
fn a_patch_without_room_is_left_alone() {
    // The slot has 1984 KiB; behind this image there are less than 64 KiB.
    let image = firmware("1.1.0", 1_970_000, Behaviour::Healthy);
    run(async {
        let lab = lab_with(&old()).await;
        let patches = vec![(Digest::of(&old()), vec![0x55; 50_000])];
        let file = Recipe { patches, ..Recipe::new("1.1.0", 5) }.make(&image).unwrap();
        let end = update(&lab, &file).await;
        assert_eq!((end.state, end.version.as_str()), (UpdateState::Confirmed, "1.1.0"), "{end:?}");
        assert!(!gave_up(&lab));
    });
}

#[test]
fn a_patch_that_fails_costs_the_image() {
    let good = patch(&old(), &new());
    falls_back("no patch at all", &[0x55; 5000]);
    falls_back("one byte", &[0]);
    falls_back("a truncated patch", &good[..good.len() / 2]);
    let other = firmware("0.9.0", SIZE + 4096, Behaviour::Healthy);
    falls_back("a patch for another image", &patch(&other, &new()));
    falls_back(
        "a patch to another image",
        &patch(&old(), &firmware("3.0.0", SIZE + GROWTH, Behaviour::Healthy)),
    );
    falls_back("a patch to a longer image", &patch(&old(), &[&new()[..], &[0; 5000]].concat()));
    falls_back("a patch to a shorter image", &patch(&old(), &new()[..SIZE]));
    for at in [3, 4, 5, 13, 40, good.len() / 2] {
        let mut bad = good.clone();
        bad[at] ^= 0x24;
        falls_back(&format!("byte {at} changed"), &bad);
    }
}

#[test]
fn blocks_that_a_bad_patch_made_well_are_kept() {
    let mut changed = new();
    changed[3 * BLOCK + 1000] ^= 1;
    let bad = patch(&old(), &changed);
    let sent = falls_back("a patch that is wrong in its fourth block", &bad);
    let file = release(&bad);
    // One block of four is fetched; with the usual slack that is still far from all.
    let limit = area(&file) + bad.len() + compressed(&file, &bad) / 4 + 2 * SLACK;
    assert!(sent <= limit, "{sent} bytes were sent, {limit} are enough");
}

/// Lets the first request bring `cut` bytes, takes the power, gives it back, and gives back how many bytes came again.
async fn fetched_after_a_cut(file: Vec<u8>, cut: usize) -> usize {
    let mut lab = lab_with(&old()).await;
    let ready = |status: &Status<String>| status.progress.is_some();
    let (again, end) = lab.update_with_a_cut(file, cut, LONG, ready).await.unwrap();
    is_installed(&lab, &end);
    assert!(!gave_up(&lab));
    again
}

#[test]
fn a_patch_goes_on_where_power_was_lost() {
    let patch = patch(&old(), &new());
    let file = release(&patch);
    let again = run(fetched_after_a_cut(file.clone(), area(&file) + patch.len() * 9 / 10));
    // In front of the patch comes the envelope again, with what is on its way when that has been read.
    let limit = area(&file) + patch.len() / 10 + 256 + SLACK;
    println!(
        "after a cut at 90 % of a patch of {} bytes, {again} came again, of {limit} at most",
        patch.len()
    );
    assert!(again <= limit, "{again} bytes came again, of {limit}");
}
