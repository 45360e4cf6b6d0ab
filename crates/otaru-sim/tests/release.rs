//! Release files: what a good one costs, what is resumed, and every way to attack one. A refused release leaves
//! the slot as it was; a broken one never leaves the running image.
#![expect(clippy::unwrap_used, reason = "a scenario that cannot be set up has failed")]

use std::time::Duration;

use otaru_format::chip::Chip;
use otaru_format::digest::Digest;
use otaru_format::release::{HEADER_LEN, MAX_ENVELOPE, MIN_BLOCK};
use otaru_format::status::{Code, Status, UpdateState};
use otaru_sim::bootloader::BootloaderKind;
use otaru_sim::firmware::{Behaviour, FirmwareSpec};
use otaru_sim::lab::http::{Act, file, head};
use otaru_sim::lab::release::{Key, Recipe, frame};
use otaru_sim::lab::{DEVICE, Lab, Setup, firmware, firmware_spec, run};

const SIZE: usize = 200_000;
const LONG: Duration = Duration::from_secs(24 * 3600);
const SLOT_1: usize = 0x21_0000;

fn image(version: &str) -> Vec<u8> {
    firmware(version, SIZE, Behaviour::Healthy)
}

/// A device that takes only what key 1 or key 2 signed.
fn strict() -> Setup {
    let mut setup = Setup::default();
    setup.config.allow_unsigned = false;
    setup.config.keys = Box::leak(Box::new([Key(1).public(), Key(2).public()]));
    setup
}

async fn lab(setup: Setup) -> Lab {
    let mut lab = Lab::new(setup, &image("1.0.0")).unwrap();
    lab.power_on();
    lab.ready().await;
    lab
}

async fn update(lab: &Lab, bytes: &[u8]) -> Status<String> {
    lab.serve(bytes);
    lab.update(LONG).await.expect("the update must come to an end")
}

fn code(status: &Status<String>) -> Option<Code> {
    status.error.as_ref().map(|error| error.code)
}

fn slot(lab: &Lab) -> Vec<u8> {
    lab.flash.contents().unwrap()[SLOT_1..SLOT_1 + SIZE].to_vec()
}

/// Offers these bytes to a strict device; it must refuse them with `expected`, touch nothing, and take a good
/// release afterwards.
fn refuses(bytes: &[u8], expected: Code) {
    run(async {
        let lab = lab(strict()).await;
        let before = slot(&lab);
        let end = update(&lab, bytes).await;
        assert_eq!((end.state, code(&end)), (UpdateState::Refused, Some(expected)), "{end:?}");
        assert!(slot(&lab) == before, "the slot was touched: {end:?}");
        let good = Recipe::new("1.1.0", 5).make(&image("1.1.0")).unwrap();
        assert_eq!(update(&lab, &good).await.version, "1.1.0", "after {end:?}");
    });
}

/// Offers these bytes to a strict device; it must give up with `expected` and go on running what it ran.
fn fails(bytes: &[u8], expected: Code) {
    run(async {
        let lab = lab(strict()).await;
        let end = update(&lab, bytes).await;
        assert_eq!((end.state, code(&end)), (UpdateState::Failed, Some(expected)), "{end:?}");
        assert!(lab.runs("1.0.0"), "{end:?}");
        let good = Recipe::new("1.1.0", 5).make(&image("1.1.0")).unwrap();
        assert_eq!(update(&lab, &good).await.version, "1.1.0", "after {end:?}");
    });
}

fn good() -> Vec<u8> {
    Recipe::new("1.1.0", 5).make(&image("1.1.0")).unwrap()
}

/// Returns the offset of the payloads.
fn area(release: &[u8]) -> usize {
    HEADER_LEN + u32::from_le_bytes(release[8..12].try_into().unwrap()) as usize
}

#[test]
fn a_signed_release_is_installed_and_costs_what_its_payload_has() {
    for (compressed, name) in [(true, "compressed"), (false, "raw")] {
        run(async {
            let lab = lab(strict()).await;
            let new = image("1.1.0");
            let release = Recipe { compressed, ..Recipe::new("1.1.0", 5) }.make(&new).unwrap();
            let end = update(&lab, &release).await;
            assert_eq!((end.state, end.version.as_str()), (UpdateState::Confirmed, "1.1.0"), "{end:?}");
            assert_eq!(end.image, Digest::of(&new));
            assert!(slot(&lab) == new[..]);
            let sent = lab.http.sent();
            println!("{name}: {sent} bytes on the wire for an image of {SIZE}");
            // The agent closes the connection once it has what it needs; what was under way then is lost.
            let payload = if compressed { release.len() - SIZE } else { release.len() };
            assert!(sent <= payload as u64 + 40_000, "{sent} bytes were sent, {payload} are needed");
        });
    }
}

#[test]
fn a_server_without_ranges_does_as_well() {
    run(async {
        let lab = lab(strict()).await;
        let release = good();
        lab.http.handle(move |request| {
            let length = release.len().to_string();
            let mut acts = vec![head(200, &[("Content-Length", &length)]), Act::Send(release.clone())];
            if request.number == 0 {
                acts = vec![acts.remove(0), Act::Send(release[..release.len() / 4].to_vec()), Act::Reset];
            }
            acts
        });
        assert_eq!(lab.update(LONG).await.unwrap().version, "1.1.0");
    });
}

#[test]
fn after_a_loss_of_power_only_what_is_missing_is_fetched() {
    // So large that a block and what is under way do not hide what came twice.
    let new = firmware("1.1.0", 1_500_000, Behaviour::Healthy);
    for compressed in [true, false] {
        let release = Recipe { compressed, ..Recipe::new("1.1.0", 5) }.make(&new).unwrap();
        let payload = release.len() - area(&release) - if compressed { new.len() } else { 0 };
        let block = new.chunks(MIN_BLOCK as usize).map(|block| frame(block).len()).max().unwrap();
        let block = if compressed { block } else { MIN_BLOCK as usize };
        let cut = area(&release) + payload * 9 / 10;
        // What stands in front of the payload comes again, and what was on its way when the agent had seen it.
        let limit = payload / 10 + block + area(&release) + 32 * 1024;
        assert!(limit < payload / 4, "nothing would be proved");
        let again = run(fetched_after_a_cut(release, cut));
        println!("after a cut at 90 % of {payload} bytes, {again} bytes came again, of {limit} at most");
        assert!(again <= limit, "{again} bytes came again, of {limit}");
    }
}

/// Sends a device's first request no more than `cut` bytes of this release, then takes its power; gives back how many
/// bytes were sent once it had power again, up to the end of the update.
async fn fetched_after_a_cut(release: Vec<u8>, cut: usize) -> usize {
    let mut lab = lab(strict()).await;
    let ready = |status: &Status<String>| status.progress.is_some_and(|percent| percent > 85);
    let (again, end) = lab.update_with_a_cut(release, cut, LONG, ready).await.unwrap();
    assert_eq!(end.version, "1.1.0");
    again
}

#[test]
fn every_bit_of_the_envelope_counts() {
    let release = good();
    let mut counts = std::collections::BTreeMap::<&str, u32>::new();
    for bit in 0..area(&release) * 8 {
        let (at, mut bad) = (bit / 8, release.clone());
        bad[at] ^= 1 << (bit % 8);
        run(async {
            let lab = lab(strict()).await;
            let before = slot(&lab);
            let end = update(&lab, &bad).await;
            let refused = matches!(end.state, UpdateState::Refused | UpdateState::Failed);
            assert!(refused && slot(&lab) == before, "bit {} of byte {at}: {end:?}", bit % 8);
            *counts.entry(code(&end).unwrap().as_str()).or_default() += 1;
        });
    }
    println!("each bit of {} bytes of header and envelope: {counts:?}", area(&release));
    let codes: Vec<_> = counts.keys().copied().collect();
    for code in codes {
        assert!(
            ["bad_release", "bad_signature", "unknown_key", "unsigned", "not_an_image", "truncated"]
                .contains(&code),
            "{code}"
        );
    }
}

#[test]
fn a_damaged_block_is_fetched_again_and_blamed() {
    let release = good();
    let mut end = area(&release);
    for block in image("1.1.0").chunks(MIN_BLOCK as usize) {
        let len = frame(block).len();
        end += len;
        let mut bad = release.clone();
        bad[end - len / 2] ^= 0x10;
        fails(&bad, Code::BlockCorrupt);
        let release = release.clone();
        run(async move {
            let lab = lab(strict()).await;
            lab.http.handle(move |request| {
                file(request, if request.number == 0 { &bad } else { &release }, "\"r\"")
            });
            assert_eq!(lab.update(LONG).await.unwrap().version, "1.1.0");
            assert!(lab.lines().iter().any(|line| line.contains("arrived damaged")), "{:?}", lab.lines());
        });
    }
}

#[test]
fn only_trusted_keys_sign() {
    refuses(
        &Recipe { key: Some(Key(9)), ..Recipe::new("1.1.0", 5) }.make(&image("1.1.0")).unwrap(),
        Code::UnknownKey,
    );
    refuses(&Recipe { key: None, ..Recipe::new("1.1.0", 5) }.make(&image("1.1.0")).unwrap(), Code::Unsigned);
    refuses(&image("1.1.0"), Code::Unsigned);
    // Another key's signature under a trusted key's name.
    let (ours, theirs) = (good(), Recipe { key: Some(Key(9)), ..Recipe::new("1.1.0", 5) });
    let theirs = theirs.make(&image("1.1.0")).unwrap();
    let mut forged = ours.clone();
    let end = area(&ours);
    forged[end - 64..end].copy_from_slice(&theirs[end - 64..end]);
    refuses(&forged, Code::BadSignature);
}

#[test]
fn a_key_can_be_replaced_and_revoked() {
    run(async {
        let lab = lab(strict()).await;
        let by = |key: Key, version: &str, sequence, revoked| {
            Recipe { key: Some(key), revoked, ..Recipe::new(version, sequence) }
                .make(&image(version))
                .unwrap()
        };
        assert_eq!(update(&lab, &by(Key(2), "1.1.0", 5, vec![])).await.version, "1.1.0");
        assert_eq!(update(&lab, &by(Key(1), "1.2.0", 6, vec![Key(2).id()])).await.version, "1.2.0");
        let end = update(&lab, &by(Key(2), "1.3.0", 7, vec![])).await;
        assert_eq!((end.state, code(&end)), (UpdateState::Refused, Some(Code::RevokedKey)), "{end:?}");
        assert_eq!(update(&lab, &by(Key(1), "1.4.0", 8, vec![])).await.version, "1.4.0");
    });
}

#[test]
fn a_revocation_that_never_ran_well_revokes_nothing() {
    run(async {
        let lab = lab(strict()).await;
        let crash = firmware("1.1.0", SIZE, Behaviour::Crash);
        let release = Recipe { revoked: vec![Key(2).id()], ..Recipe::new("1.1.0", 9) }.make(&crash).unwrap();
        assert_eq!(update(&lab, &release).await.state, UpdateState::RolledBack);
        let other = Recipe { key: Some(Key(2)), ..Recipe::new("1.2.0", 5) }.make(&image("1.2.0")).unwrap();
        assert_eq!(update(&lab, &other).await.version, "1.2.0");
    });
}

#[test]
fn an_older_release_is_not_replayed() {
    for bootloader in [BootloaderKind::Plain, BootloaderKind::Rollback] {
        run(async {
            let mut lab = lab(Setup { bootloader, ..strict() }).await;
            let release =
                |version: &str, sequence| Recipe::new(version, sequence).make(&image(version)).unwrap();
            assert_eq!(update(&lab, &release("1.2.0", 20)).await.version, "1.2.0");
            // The memory outlives power.
            lab.power_off();
            lab.power_on();
            lab.ready().await;
            let end = update(&lab, &release("1.1.0", 19)).await;
            assert_eq!((end.state, code(&end)), (UpdateState::Refused, Some(Code::Downgrade)), "{end:?}");
            // Nor does another image pass for it under its number.
            let end = update(&lab, &release("1.3.0", 20)).await;
            assert_eq!((end.state, code(&end)), (UpdateState::Refused, Some(Code::Downgrade)), "{end:?}");
            assert_eq!(update(&lab, &release("1.2.0", 20)).await.state, UpdateState::Current);
            assert_eq!(update(&lab, &release("1.3.0", 21)).await.version, "1.3.0");
        });
    }
}

/// An image with this secure version in its descriptor.
fn secured(version: &str, secure_version: u32) -> Vec<u8> {
    FirmwareSpec { secure_version, ..firmware_spec(version, SIZE, Behaviour::Healthy) }.build()
}

/// A lab whose device runs version 1.0.0 with secure version 3.
async fn secured_lab(setup: Setup) -> Lab {
    let mut lab = Lab::new(setup, &secured("1.0.0", 3)).unwrap();
    lab.power_on();
    lab.ready().await;
    lab
}

/// Offers this; the device must refuse it for its secure version and go on running what it ran. Says whether it
/// touched the slot.
async fn is_below(lab: &Lab, bytes: &[u8], runs: &str) -> bool {
    let before = slot(lab);
    let end = update(lab, bytes).await;
    assert_eq!((end.state, code(&end)), (UpdateState::Refused, Some(Code::SecureVersion)), "{end:?}");
    assert!(lab.runs(runs), "{end:?}");
    slot(lab) != before
}

#[test]
fn the_secure_version_never_goes_down() {
    let release = |version: &str, promised, real| {
        let sequence = version.bytes().map(u64::from).sum();
        let recipe = Recipe { secure_version: promised, ..Recipe::new(version, sequence) };
        recipe.make(&secured(version, real)).unwrap()
    };
    let mut lax = strict();
    lax.config.allow_downgrade = true;
    for setup in [strict(), lax] {
        run(async {
            let lab = secured_lab(setup).await;
            assert!(!is_below(&lab, &release("1.1.0", 2, 2), "1.0.0").await);
            assert!(!is_below(&lab, &release("1.1.0", 0, 0), "1.0.0").await);
            // The manifest promises less than the image has.
            assert!(!is_below(&lab, &release("1.1.0", 2, 3), "1.0.0").await);
            // It promises more: only what is in the slot can tell, and it is never activated.
            for _ in 0..2 {
                is_below(&lab, &release("1.1.0", 4, 2), "1.0.0").await;
            }
            assert_eq!(update(&lab, &release("1.2.0", 3, 3)).await.version, "1.2.0");
            assert_eq!(update(&lab, &release("1.3.0", 4, 4)).await.version, "1.3.0");
            assert!(!is_below(&lab, &release("1.4.0", 3, 3), "1.3.0").await);
        });
    }
}

#[test]
fn force_does_not_lower_the_secure_version() {
    run(async {
        let mut setup = strict();
        setup.config.allow_unsigned = true;
        let lab = secured_lab(setup).await;
        let old = secured("0.9.0", 2);
        lab.serve(&Recipe { secure_version: 2, ..Recipe::new("0.9.0", 1) }.make(&old).unwrap());
        let end = send(&lab, forced(&old).as_bytes()).await;
        assert_eq!((end.state, code(&end)), (UpdateState::Refused, Some(Code::SecureVersion)), "{end:?}");
    });
}

#[test]
fn the_secure_version_counts_without_a_signature_too() {
    run(async {
        let lab = secured_lab(Setup::default()).await;
        assert!(!is_below(&lab, &secured("1.1.0", 2), "1.0.0").await);
        assert_eq!(update(&lab, &secured("1.2.0", 4)).await.version, "1.2.0");
        // The first image still stands in the other slot, good and named by its digest.
        let first = secured("1.0.0", 3);
        lab.serve(&first);
        let offer = format!(r#"{{"url":"http://files/new.bin","image":"{}"}}"#, Digest::of(&first));
        let before = lab.reports().len();
        lab.broker.publish(&format!("ESP32/ota/{DEVICE}/update"), &offer, false);
        let mut count = 0;
        let end = lab.wait_for(LONG, |status| {
            count += 1;
            count > before && status.state.is_final()
        });
        let end = end.await.unwrap();
        assert_eq!((end.state, code(&end)), (UpdateState::Refused, Some(Code::SecureVersion)), "{end:?}");
        assert!(lab.runs("1.2.0"));
    });
}

#[test]
fn what_does_not_fit_the_device_is_refused() {
    let new = image("1.1.0");
    let make = |recipe: Recipe| recipe.make(&new).unwrap();
    refuses(&make(Recipe { product: "toaster".into(), ..Recipe::new("1.1.0", 5) }), Code::WrongProduct);
    refuses(&make(Recipe { chip: Chip::Esp32S3, ..Recipe::new("1.1.0", 5) }), Code::WrongChip);
    refuses(&make(Recipe { min_base: Some("1.0.1".into()), ..Recipe::new("1.1.0", 5) }), Code::BaseTooOld);
    let huge = vec![0xE9; 2_100_000];
    refuses(&Recipe { compressed: false, ..Recipe::new("1.1.0", 5) }.make(&huge).unwrap(), Code::TooLarge);
}

#[test]
fn lengths_that_lie_do_no_harm() {
    let release = good();
    // An envelope of a MiB, of one byte more than a device holds, and of nothing.
    for len in [1 << 20, MAX_ENVELOPE as u32 + 1, u32::MAX, 0] {
        let mut bad = release.clone();
        bad[8..12].copy_from_slice(&len.to_le_bytes());
        bad.resize(bad.len().max(1 << 20), 0);
        refuses(&bad, Code::BadRelease);
    }
    // More bytes than there should be are of no interest, fewer are missed.
    run(async {
        let lab = lab(strict()).await;
        let mut long = release.clone();
        long.extend_from_slice(&[0; 10_000]);
        assert_eq!(update(&lab, &long).await.version, "1.1.0");
    });
    for part in [area(&release) - 1, area(&release) + 1000, HEADER_LEN - 1] {
        run(async {
            let lab = lab(strict()).await;
            let end = update(&lab, &release[..part]).await;
            assert_eq!(end.state, UpdateState::Failed, "{end:?}");
            assert!(matches!(code(&end), Some(Code::Truncated)), "{end:?}");
            assert!(lab.runs("1.0.0"));
        });
    }
}

#[test]
fn frames_that_lie_are_stopped_at_the_block() {
    let new = image("1.1.0");
    let blocks: Vec<_> = new.chunks(MIN_BLOCK as usize).collect();
    let good: Vec<_> = blocks.iter().map(|block| frame(block)).collect();
    // A frame that would unpack to far more, one of noise, one of another block, one that is empty but for its start.
    let bomb = otaru_lzma::encode(&vec![0; 16 << 20]);
    let noise: Vec<u8> = (0..5000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    for bad in [bomb, noise, good[1].clone(), vec![0; 5]] {
        let mut frames = good.clone();
        frames[0] = bad;
        fails(&Recipe::new("1.1.0", 5).assemble(&new, &frames).unwrap(), Code::BlockCorrupt);
    }
    // The payloads of another release under a good manifest.
    let other = Recipe::new("1.1.0", 5).make(&image("6.6.6")).unwrap();
    let ours = Recipe::new("1.1.0", 5).make(&new).unwrap();
    let mixed = [&ours[..area(&ours)], &other[area(&other)..]].concat();
    fails(&mixed, Code::BlockCorrupt);
}

/// Sends a command to the device, and gives back the report that ends it.
async fn send(lab: &Lab, payload: &[u8]) -> Status<String> {
    let before = lab.reports().len();
    lab.broker.publish(&format!("ESP32/ota/{DEVICE}/update"), payload, false);
    let mut count = 0;
    let end = lab.wait_for(LONG, |status| {
        count += 1;
        count > before && status.state.is_final()
    });
    end.await.unwrap()
}

fn forced(image: &[u8]) -> String {
    format!(r#"{{"url":"http://files/new.otaru","image":"{}","force":true}}"#, Digest::of(image))
}

#[test]
fn force_counts_for_nothing_where_signatures_do() {
    let mut lax = strict();
    lax.config.allow_downgrade = true;
    for setup in [strict(), lax] {
        run(async {
            let lab = lab(setup).await;
            assert_eq!(update(&lab, &good()).await.version, "1.1.0");
            let before = slot(&lab);
            lab.serve(&Recipe::new("1.2.0", 99).make(&image("1.2.0")).unwrap());
            let end = send(&lab, forced(&image("1.2.0")).as_bytes()).await;
            assert_eq!((end.state, code(&end)), (UpdateState::Refused, Some(Code::Unsigned)), "{end:?}");
            assert!(end.error.unwrap().detail.contains("otaru resign --sequence"));
            assert!(slot(&lab) == before);
        });
    }
}

#[test]
fn force_does_not_lift_the_order_of_releases() {
    run(async {
        let mut setup = strict();
        setup.config.allow_unsigned = true;
        let lab = lab(setup).await;
        let release = |version: &str, sequence| Recipe::new(version, sequence).make(&image(version)).unwrap();
        assert_eq!(update(&lab, &release("1.2.0", 20)).await.version, "1.2.0");
        lab.serve(&release("1.1.0", 19));
        let end = send(&lab, forced(&image("1.1.0")).as_bytes()).await;
        assert_eq!((end.state, code(&end)), (UpdateState::Refused, Some(Code::Downgrade)), "{end:?}");
    });
}

#[test]
fn going_back_is_going_forward() {
    run(async {
        let lab = lab(strict()).await;
        let release = |version: &str, sequence| Recipe::new(version, sequence).make(&image(version)).unwrap();
        assert_eq!(update(&lab, &release("1.2.0", 20)).await.version, "1.2.0");
        let end = update(&lab, &release("1.1.0", 3)).await;
        assert_eq!((end.state, code(&end)), (UpdateState::Refused, Some(Code::Downgrade)), "{end:?}");
        assert_eq!(update(&lab, &release("1.1.0", 21)).await.version, "1.1.0");
        // What it went back from is the older release now.
        let end = update(&lab, &release("1.2.0", 20)).await;
        assert_eq!((end.state, code(&end)), (UpdateState::Refused, Some(Code::Downgrade)), "{end:?}");
    });
}

#[test]
fn a_signed_command_is_no_command() {
    run(async {
        let lab = lab(strict()).await;
        let new = image("1.1.0");
        lab.serve(&good());
        for command in [forced(&new), "http://files/new.otaru".to_owned()] {
            let end = send(&lab, &Key(1).seal(command.as_bytes()).unwrap()).await;
            assert_eq!((end.state, code(&end)), (UpdateState::Refused, Some(Code::BadCommand)), "{end:?}");
        }
        assert!(lab.runs("1.0.0"));
    });
}
