//! Firmware that a device takes and refuses: for which product, chip, revision and flash, as which image, and what it
//! makes of files that are not quite an image. A lamp's image is never confirmed on a lock.
#![expect(clippy::unwrap_used, reason = "a scenario that cannot be set up has failed")]

use std::time::Duration;

use otaru_format::digest::Digest;
use otaru_format::image::{HEADER_LEN, SEGMENT_HEADER_LEN};
use otaru_format::status::{Code, Status, UpdateState};
use otaru_sim::device::ChipFacts;
use otaru_sim::firmware::{Behaviour, FirmwareSpec};
use otaru_sim::lab::http::{Act, file, head};
use otaru_sim::lab::release::{Key, Recipe};
use otaru_sim::lab::{DEVICE, Lab, PROJECT, Setup, firmware, firmware_spec, run};

const SIZE: usize = 150_000;
const LONG: Duration = Duration::from_secs(24 * 3600);
const SLOT_1: usize = 0x21_0000;
/// Layout of `esp_image_header_t`: mode and size of the flash, and the chip revisions.
const FLASH_AT: usize = 3;
const MIN_REVISION_AT: usize = 15;
const MAX_REVISION_AT: usize = 17;
const DESCRIPTOR_AT: usize = HEADER_LEN + SEGMENT_HEADER_LEN;
const NAME_AT: usize = DESCRIPTOR_AT + 48;

fn image(version: &str) -> Vec<u8> {
    firmware(version, SIZE, Behaviour::Healthy)
}

fn of_product(product: &str, version: &str) -> Vec<u8> {
    FirmwareSpec { project: product.into(), ..firmware_spec(version, SIZE, Behaviour::Healthy) }.build()
}

/// The image with changes, and with the checksum and SHA-256 that then are right.
fn changed(image: &[u8], change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut image = image[..image.len() - 32].to_vec();
    change(&mut image);
    let mut at = HEADER_LEN;
    let mut checksum = 0xEF;
    for _ in 0..image[1] {
        let len = u32::from_le_bytes(image[at + 4..at + 8].try_into().unwrap()) as usize;
        let data = &image[at + SEGMENT_HEADER_LEN..][..len];
        checksum = data.iter().fold(checksum, |sum, byte| sum ^ byte);
        at += SEGMENT_HEADER_LEN + len;
    }
    *image.last_mut().unwrap() = checksum;
    let digest = Digest::of(&image);
    [&image[..], &digest.0].concat()
}

fn nameless(version: &str) -> Vec<u8> {
    changed(&image(version), |image| image[DESCRIPTOR_AT] ^= 1)
}

/// A merged flash image, its bootloader here: bootloader, partition table, application.
fn merged(offset: usize, bootloader: &[u8]) -> Vec<u8> {
    let mut file = vec![0xFF; offset];
    file.extend(bootloader);
    file.resize(0x8000, 0xFF);
    file.extend([0xAA, 0x50, 1, 2]);
    file.resize(0x10000, 0xFF);
    file.extend(image("1.1.0"));
    file
}

fn bootloader() -> Vec<u8> {
    changed(&firmware("1.1.0", 5000, Behaviour::Healthy), |image| image[DESCRIPTOR_AT] ^= 1)
}

fn with_signature_block(image: &[u8]) -> Vec<u8> {
    let mut file = image.to_vec();
    file.resize(file.len().next_multiple_of(4096), 0xFF);
    file.extend([0xE7, 0x02]);
    file.extend((0..4094_u32).map(|at| (at % 251) as u8));
    file
}

fn strict() -> Setup {
    let mut setup = Setup::default();
    setup.config.allow_unsigned = false;
    setup.config.keys = Box::leak(Box::new([Key(1).public()]));
    setup
}

async fn lab_with(setup: Setup, image: &[u8]) -> Lab {
    let mut lab = Lab::new(setup, image).unwrap();
    lab.power_on();
    lab.ready().await;
    lab
}

async fn lab(setup: Setup) -> Lab {
    lab_with(setup, &image("1.0.0")).await
}

/// Returns how an update to these bytes ends, asked for by their URL alone.
async fn update(lab: &Lab, bytes: &[u8]) -> Status<String> {
    lab.serve(bytes);
    lab.update(LONG).await.expect("the update must come to an end")
}

/// Returns how the update ends that this command asks for.
async fn command(lab: &Lab, bytes: &[u8], command: &str) -> Status<String> {
    lab.serve(bytes);
    let before = lab.reports().len();
    lab.broker.publish(&format!("ESP32/ota/{DEVICE}/update"), command, false);
    let mut count = 0;
    let end = lab.wait_for(LONG, |status| {
        count += 1;
        count > before && status.state.is_final()
    });
    end.await.expect("the update must come to an end")
}

fn forced() -> &'static str {
    r#"{"url":"http://files/new.bin","force":true}"#
}

fn offer(image: Digest) -> String {
    format!(r#"{{"url":"http://files/new.bin","image":"{image}"}}"#)
}

fn code(status: &Status<String>) -> Option<Code> {
    status.error.as_ref().map(|error| error.code)
}

fn refused(code: Code) -> (UpdateState, Option<Code>) {
    (UpdateState::Refused, Some(code))
}

fn slot(lab: &Lab, len: usize) -> Vec<u8> {
    lab.flash.contents().unwrap()[SLOT_1..SLOT_1 + len].to_vec()
}

fn outcome(status: &Status<String>) -> (UpdateState, Option<Code>) {
    (status.state, code(status))
}

#[test]
fn a_merged_image_is_refused_before_the_slot_is_touched() {
    let whole_flash = {
        let mut file = merged(0, &bootloader());
        file.resize(4 << 20, 0xFF);
        file
    };
    let files =
        [merged(0, &bootloader()), merged(0x1000, &bootloader()), merged(0x2000, &bootloader()), whole_flash];
    run(async {
        let lab = lab(Setup::default()).await;
        let before = slot(&lab, 0x1F_0000);
        for bytes in &files {
            for payload in ["http://files/new.bin", forced()] {
                let end = command(&lab, bytes, payload).await;
                assert_eq!(outcome(&end), refused(Code::MergedImage), "{payload}: {end:?}");
                assert!(end.error.unwrap().detail.contains("the application's own .bin"));
            }
        }
        assert!(slot(&lab, 0x1F_0000) == before, "the slot was touched");
        assert_eq!(update(&lab, &image("1.1.0")).await.version, "1.1.0");
    });
}

#[test]
fn a_merged_image_is_found_whatever_the_pieces_it_comes_in() {
    for step in [1, 3, 1000, 1460] {
        run(async {
            let lab = lab(Setup::default()).await;
            let bytes = merged(0, &bootloader());
            lab.http.handle(move |_| {
                let pause = Duration::from_micros(1);
                let drip = Act::Drip { bytes: bytes.clone(), step, pause };
                vec![head(200, &[("Content-Length", &bytes.len().to_string())]), drip]
            });
            assert_eq!(outcome(&lab.update(LONG).await.unwrap()), refused(Code::MergedImage), "{step}");
        });
    }
}

#[test]
fn a_bootloader_that_tells_a_name_is_part_of_a_merged_image_all_the_same() {
    run(async {
        let lab = lab(Setup::default()).await;
        let bootloader = firmware("1.1.0", 5000, Behaviour::Healthy);
        let end = update(&lab, &merged(0, &bootloader)).await;
        assert_eq!(code(&end), Some(Code::MergedImage), "{end:?}");
        assert!(lab.runs("1.0.0"));
    });
}

#[test]
fn a_release_of_a_merged_image_is_refused_with_its_first_block() {
    let merged = merged(0, &bootloader());
    for (compressed, setup) in [(true, strict()), (false, strict()), (true, Setup::default())] {
        run(async {
            let key = Some(Key(1)).filter(|_| !setup.config.allow_unsigned);
            let payload = if key.is_none() { forced() } else { "http://files/new.bin" };
            let lab = lab(setup).await;
            let release = Recipe { compressed, key, ..Recipe::new("1.1.0", 5) }.make(&merged).unwrap();
            // The second time it stands in the slot already.
            for _ in 0..2 {
                let end = command(&lab, &release, payload).await;
                assert_eq!(outcome(&end), refused(Code::MergedImage), "{end:?}");
            }
            assert!(lab.runs("1.0.0"));
        });
    }
}

#[test]
fn what_says_nothing_about_itself_fits_nothing() {
    let empty = changed(&image("1.1.0"), |image| image[NAME_AT..NAME_AT + 32].fill(0));
    let unreadable = changed(&image("1.1.0"), |image| image[NAME_AT + 1] = 0xFF);
    for bytes in [nameless("1.1.0"), empty, unreadable] {
        run(async {
            let lab = lab(Setup::default()).await;
            let before = slot(&lab, SIZE);
            let end = update(&lab, &bytes).await;
            assert_eq!(outcome(&end), refused(Code::NoProduct), "{end:?}");
            let end = command(&lab, &bytes, &offer(Digest::of(&bytes))).await;
            assert_eq!(outcome(&end), refused(Code::NoProduct), "{end:?}");
            assert!(slot(&lab, SIZE) == before, "the slot was touched");
            let end = command(&lab, &bytes, forced()).await;
            assert_eq!((end.state, end.image), (UpdateState::Confirmed, Digest::of(&bytes)), "{end:?}");
            // From then on the device does not know its product, and takes nothing but by force.
            let end = update(&lab, &image("1.2.0")).await;
            assert_eq!(outcome(&end), refused(Code::NoProduct), "{end:?}");
            assert_eq!(command(&lab, &image("1.2.0"), forced()).await.version, "1.2.0");
            assert_eq!(update(&lab, &image("1.3.0")).await.version, "1.3.0");
        });
    }
}

#[test]
fn a_product_that_was_set_outlasts_an_image_without_a_name() {
    run(async {
        let mut setup = Setup::default();
        setup.config.product = Some(PROJECT);
        let lab = lab(setup).await;
        assert_eq!(command(&lab, &nameless("1.1.0"), forced()).await.state, UpdateState::Confirmed);
        let end = update(&lab, &of_product("toaster", "1.2.0")).await;
        assert_eq!(outcome(&end), refused(Code::WrongProduct), "{end:?}");
        assert_eq!((end.project.as_str(), end.product()), ("", PROJECT));
        assert_eq!(update(&lab, &image("1.2.0")).await.version, "1.2.0");
    });
}

#[test]
fn a_lamps_image_is_never_confirmed_on_a_lock() {
    let lamp = of_product("lamp", "9.9.9");
    let release = |recipe: Recipe| recipe.make(&lamp).unwrap();
    let releases = [
        release(Recipe { product: "lamp".into(), ..Recipe::new("9.9.9", 99) }),
        release(Recipe { product: "lamp".into(), also: vec!["lamp-2".into()], ..Recipe::new("9.9.9", 99) }),
    ];
    run(async {
        let lab = lab_with(strict(), &of_product("lock", "1.0.0")).await;
        let digest = Digest::of(&lamp);
        for bytes in releases.iter().chain([&lamp]) {
            for payload in [
                "http://files/new.bin".to_owned(),
                offer(digest),
                forced().to_owned(),
                format!(r#"{{"url":"http://files/new.bin","image":"{digest}","force":true}}"#),
            ] {
                let end = command(&lab, bytes, &payload).await;
                assert_eq!(end.state, UpdateState::Refused, "{payload}: {end:?}");
                assert!(
                    matches!(code(&end), Some(Code::WrongProduct | Code::Unsigned)),
                    "{payload}: {end:?}"
                );
                assert!(!end.error.unwrap().detail.contains("lamp"), "what a server sent is not told");
            }
        }
        assert!(lab.reports().iter().all(|report| report.version == "1.0.0"));
    });
}

#[test]
fn a_fleet_is_renamed_by_a_release_that_is_for_the_old_name_too() {
    let new_name = |version: &str| of_product("lab-pro", version);
    let release = |version: &str, sequence, product: &str, also: &[&str]| {
        let also = also.iter().map(|name| (*name).to_owned()).collect();
        let recipe = Recipe { product: product.into(), also, ..Recipe::new(version, sequence) };
        recipe.make(&new_name(version)).unwrap()
    };
    run(async {
        let mut lab = lab(strict()).await;
        let end = update(&lab, &release("1.1.0", 5, "lab-pro", &[])).await;
        assert_eq!(outcome(&end), refused(Code::WrongProduct), "{end:?}");
        let end = update(&lab, &release("1.1.0", 5, "lab-pro", &["lab", "laboratory"])).await;
        assert_eq!((end.state, end.product()), (UpdateState::Confirmed, "lab-pro"), "{end:?}");
        lab.power_on();
        lab.ready().await;
        assert_eq!(lab.reports().last().unwrap().product(), "lab-pro");
        let end = update(&lab, &release("1.2.0", 6, "lab", &[])).await;
        assert_eq!(outcome(&end), refused(Code::WrongProduct), "{end:?}");
        assert_eq!(update(&lab, &release("1.2.0", 6, "lab-pro", &[])).await.version, "1.2.0");
    });
    // Or by a setting, whatever the image's own name is.
    run(async {
        let mut setup = strict();
        setup.config.product = Some("shelf");
        setup.config.products = &["lab-pro"];
        let lab = lab(setup).await;
        assert_eq!(lab.reports().last().unwrap().product(), "shelf");
        let end = update(&lab, &release("1.1.0", 5, "lab", &[])).await;
        assert_eq!(outcome(&end), refused(Code::WrongProduct), "{end:?}");
        assert_eq!(update(&lab, &release("1.1.0", 5, "lab-pro", &[])).await.version, "1.1.0");
        assert_eq!(update(&lab, &release("1.2.0", 6, "shelf", &[])).await.version, "1.2.0");
    });
}

#[test]
fn a_release_that_is_rolled_back_renames_nothing() {
    run(async {
        let lab = lab(strict()).await;
        let spec =
            FirmwareSpec { project: "lab-pro".into(), ..firmware_spec("1.1.0", SIZE, Behaviour::Crash) };
        let recipe =
            Recipe { product: "lab-pro".into(), also: vec!["lab".into()], ..Recipe::new("1.1.0", 5) };
        let end = update(&lab, &recipe.make(&spec.build()).unwrap()).await;
        assert_eq!((end.state, end.product()), (UpdateState::RolledBack, "lab"), "{end:?}");
    });
}

#[test]
fn the_same_program_in_another_image_is_another_image() {
    // The header of a larger flash: nothing else differs.
    let other = changed(&image("1.0.0"), |image| image[FLASH_AT] = 0x40 | image[FLASH_AT] & 15);
    for payload in ["http://files/new.bin".to_owned(), offer(Digest::of(&other))] {
        run(async {
            let lab = lab(Setup::default()).await;
            let end = command(&lab, &other, &payload).await;
            assert_eq!((end.state, end.image), (UpdateState::Confirmed, Digest::of(&other)), "{payload}");
            let end = command(&lab, &other, &payload).await;
            assert_eq!(end.state, UpdateState::Current, "{payload}: {end:?}");
        });
    }
    // Of an image that was offered, nothing but its digest says that it runs.
    run(async {
        let lab = lab(Setup::default()).await;
        let end = command(&lab, &image("1.0.0"), &offer(Digest::of(&other))).await;
        assert_eq!(outcome(&end), (UpdateState::Failed, Some(Code::DigestMismatch)), "{end:?}");
    });
}

#[test]
fn the_same_program_in_another_image_did_not_fail_before() {
    let bad = firmware("1.1.0", SIZE, Behaviour::Crash);
    let other = changed(&bad, |image| image[FLASH_AT] = 0x30 | image[FLASH_AT] & 15);
    run(async {
        let lab = lab(Setup::default()).await;
        assert_eq!(update(&lab, &bad).await.state, UpdateState::RolledBack);
        assert_eq!(outcome(&update(&lab, &bad).await), refused(Code::FailedBefore));
        let end = command(&lab, &bad, &offer(Digest::of(&bad))).await;
        assert_eq!(outcome(&end), refused(Code::FailedBefore));
        assert_eq!(command(&lab, &other, &offer(Digest::of(&other))).await.state, UpdateState::RolledBack);
        // Only the last one is remembered.
        assert_eq!(update(&lab, &bad).await.state, UpdateState::RolledBack);
        assert_eq!(update(&lab, &other).await.state, UpdateState::RolledBack);
    });
}

/// A device of this chip, and images whose headers ask for something of it.
fn facts(revision: u16, flash_size: u32) -> ChipFacts {
    ChipFacts { revision: Some(revision), flash_size: Some(flash_size) }
}

fn asking(min: u16, max: u16, flash: u8) -> Vec<u8> {
    changed(&image("1.1.0"), |image| {
        image[FLASH_AT] = flash << 4 | image[FLASH_AT] & 15;
        image[MIN_REVISION_AT..MIN_REVISION_AT + 2].copy_from_slice(&min.to_le_bytes());
        image[MAX_REVISION_AT..MAX_REVISION_AT + 2].copy_from_slice(&max.to_le_bytes());
    })
}

#[test]
fn revision_and_flash_of_the_chip_are_held_against_the_header() {
    let chip = facts(103, 4 << 20);
    for (bytes, expected) in [
        (asking(0, 199, 2), None),
        (asking(103, 103, 1), None),
        (asking(0, 0, 0), None),
        (asking(0, 65535, 2), None),
        (asking(104, 199, 2), Some(Code::WrongRevision)),
        (asking(0, 99, 2), Some(Code::WrongRevision)),
        (asking(300, 0, 2), Some(Code::WrongRevision)),
        (asking(0, 199, 3), Some(Code::FlashTooSmall)),
        // A size that no chip has says nothing.
        (asking(0, 199, 9), None),
    ] {
        let raw = Recipe { compressed: false, ..Recipe::new("1.1.0", 5) }.make(&bytes).unwrap();
        let packed = Recipe::new("1.1.0", 5).make(&bytes).unwrap();
        let strict = Setup { facts: chip, ..strict() };
        let lax = Setup { facts: chip, ..Setup::default() };
        for (setup, file, kind) in
            [(lax, &bytes, "bare"), (strict.clone(), &raw, "raw"), (strict.clone(), &packed, "packed")]
        {
            run(async {
                let lab = lab(setup).await;
                let end = update(&lab, file).await;
                let Some(expected) = expected else {
                    assert_eq!(end.version, "1.1.0", "{kind}: {end:?}");
                    return;
                };
                assert_eq!(outcome(&end), refused(expected), "{kind}: {end:?}");
                // What was written of it is looked at, and refused without a byte more.
                let end = update(&lab, file).await;
                assert_eq!(outcome(&end), refused(expected), "{kind}: {end:?}");
                assert!(lab.runs("1.0.0"));
            });
        }
        // A chip that does not tell takes them all.
        run(async {
            let lab = lab(Setup::default()).await;
            assert_eq!(update(&lab, &bytes).await.version, "1.1.0");
        });
    }
}

#[test]
fn an_image_that_stands_in_the_slot_is_held_against_the_chip_too() {
    let bad = asking(300, 0, 2);
    for setup in [strict(), Setup::default()] {
        let setup = Setup { facts: facts(3, 4 << 20), ..setup };
        run(async {
            let allowed = setup.config.allow_unsigned;
            let lab = lab(setup).await;
            lab.flash.provision(SLOT_1 as u32, &bad).unwrap();
            let release = Recipe::new("1.1.0", 5).make(&bad).unwrap();
            let bytes = if allowed { &bad } else { &release };
            let sent = lab.http.sent();
            let end = command(&lab, bytes, &offer(Digest::of(&bad))).await;
            assert_eq!(outcome(&end), refused(Code::WrongRevision), "{end:?}");
            assert!(lab.http.sent() - sent < 60_000, "looked at in the slot");
        });
    }
}

#[test]
fn what_a_patch_makes_is_held_against_the_chip_too() {
    let (old, bad) = (image("1.0.0"), asking(300, 0, 2));
    let patch = otaru_delta::encode(&old, &bad).unwrap();
    let recipe = Recipe { patches: vec![(Digest::of(&old), patch)], ..Recipe::new("1.1.0", 5) };
    run(async {
        let lab = lab(Setup { facts: facts(3, 4 << 20), ..strict() }).await;
        let end = update(&lab, &recipe.make(&bad).unwrap()).await;
        assert_eq!(outcome(&end), refused(Code::WrongRevision), "{end:?}");
        assert!(lab.runs("1.0.0"));
    });
}

#[test]
fn damage_to_the_first_block_is_fetched_again_and_not_believed() {
    let release = Recipe { compressed: false, ..Recipe::new("1.1.0", 5) }.make(&image("1.1.0")).unwrap();
    run(async {
        let lab = lab(Setup { facts: facts(3, 4 << 20), ..strict() }).await;
        let at = release.windows(4).position(|bytes| bytes == &image("1.1.0")[..4]).unwrap();
        let good = release.clone();
        lab.http.handle(move |request| {
            let mut bytes = good.clone();
            if request.number == 0 {
                bytes[at + MIN_REVISION_AT + 1] = 9;
            }
            file(request, &bytes, "\"r\"")
        });
        assert_eq!(lab.update(LONG).await.unwrap().version, "1.1.0");
    });
}

#[test]
fn a_signature_block_is_kept_and_anything_else_is_named_and_cut() {
    let new = image("1.1.0");
    let signed = with_signature_block(&new);
    let line = "Leaving out what follows the image.";
    let written = |lab: &Lab| slot(lab, signed.len() + 8192);
    let blank_from = |bytes: &[u8], at: usize| bytes[at..].iter().all(|byte| *byte == 0xFF);
    let release = Recipe::new("1.1.0", 5);
    let release = release.make_of(&signed, Digest::of(&new)).unwrap();
    for (setup, file) in [(Setup::default(), &signed), (strict(), &release)] {
        run(async {
            let lab = lab(setup).await;
            let end = update(&lab, file).await;
            assert_eq!((end.state, end.image), (UpdateState::Confirmed, Digest::of(&new)), "{end:?}");
            let slot = written(&lab);
            assert!(slot.starts_with(&signed) && blank_from(&slot, signed.len()));
            assert!(!lab.lines().iter().any(|have| have == line));
        });
    }
    let junk = |front: &[u8]| [front, &[0x55; 3000]].concat();
    let mut no_block = signed.clone();
    no_block[signed.len() - 4096] = 0xE8;
    let mut no_gap = signed.clone();
    no_gap[new.len()] = 0;
    for (file, kept) in [(junk(&new), &new), (no_block, &new), (no_gap, &new), (junk(&signed), &signed)] {
        run(async {
            let lab = lab(Setup::default()).await;
            let end = update(&lab, &file).await;
            assert_eq!((end.state, end.image), (UpdateState::Confirmed, Digest::of(&new)), "{end:?}");
            let slot = written(&lab);
            assert!(slot.starts_with(kept) && blank_from(&slot, kept.len()), "more was written than is kept");
            assert!(lab.lines().iter().any(|have| have == line), "{:?}", lab.lines());
        });
    }
}

#[test]
fn a_signature_block_survives_a_connection_that_breaks_before_it() {
    let new = image("1.1.0");
    let signed = with_signature_block(&new);
    for cut in [new.len(), new.len() + 5, signed.len() - 4096, signed.len() - 4095, signed.len() - 1] {
        let bytes = signed.clone();
        run(async {
            let lab = lab(Setup::default()).await;
            lab.http.handle(move |request| {
                let mut acts = file(request, &bytes, "\"s\"");
                if request.number == 0
                    && let Some(Act::Send(body)) = acts.get_mut(1)
                {
                    body.truncate(cut);
                    acts.push(Act::Close);
                }
                acts
            });
            assert_eq!(lab.update(LONG).await.unwrap().version, "1.1.0");
            assert!(slot(&lab, signed.len()) == signed, "cut at {cut}");
        });
    }
}

#[test]
fn a_sequence_belongs_to_one_image() {
    let release = |version: &str, sequence| Recipe::new(version, sequence).make(&image(version)).unwrap();
    run(async {
        let lab = lab(strict()).await;
        assert_eq!(update(&lab, &release("1.1.0", 7)).await.version, "1.1.0");
        assert_eq!(update(&lab, &release("1.1.0", 7)).await.state, UpdateState::Current);
        let end = update(&lab, &release("1.2.0", 7)).await;
        assert_eq!(outcome(&end), refused(Code::Downgrade), "{end:?}");
        assert!(end.error.unwrap().detail.contains("sign this one again with a higher sequence"));
        assert_eq!(outcome(&update(&lab, &release("1.2.0", 6)).await), refused(Code::Downgrade));
        // The way back is the old image in a later release.
        assert_eq!(update(&lab, &release("1.0.0", 8)).await.version, "1.0.0");
        assert_eq!(outcome(&update(&lab, &release("1.1.0", 7)).await), refused(Code::Downgrade));
    });
}

#[test]
fn a_later_release_of_an_image_that_failed_is_tried() {
    let bad = firmware("1.1.0", SIZE, Behaviour::Crash);
    for named in [false, true] {
        for setup in [strict(), Setup::default()] {
            let lab_is_lax = setup.config.allow_unsigned;
            run(async {
                let lab = lab(setup).await;
                let key = Some(Key(1)).filter(|_| !lab_is_lax);
                let release = |sequence| Recipe { key, ..Recipe::new("1.1.0", sequence) }.make(&bad).unwrap();
                let payload = if named { offer(Digest::of(&bad)) } else { "http://files/new.bin".to_owned() };
                for sequence in [7, 8] {
                    let end = command(&lab, &release(sequence), &payload).await;
                    assert_eq!(end.state, UpdateState::RolledBack, "{sequence}: {end:?}");
                    let end = command(&lab, &release(sequence), &payload).await;
                    assert_eq!(outcome(&end), refused(Code::FailedBefore), "{sequence}: {end:?}");
                }
            });
        }
    }
}

#[test]
fn reports_tell_nothing_of_what_a_server_sent() {
    // Names, versions, digests, keys and first bytes that occur nowhere else.
    let secret = of_product("secretname", "77.66.55");
    let mut odd_start = secret.clone();
    odd_start[0] = 0xC7;
    let release = |recipe: Recipe| {
        let recipe = Recipe { product: "secretname".into(), ..recipe };
        recipe.make(&secret).unwrap()
    };
    let unknown = Recipe { key: Some(Key(9)), ..Recipe::new("77.66.55", 31_337) };
    let mut newer = release(Recipe::new("77.66.55", 5));
    newer[7] = 0xC7;
    let mut unsigned = Setup::default();
    unsigned.config.keys = strict().config.keys;
    let words = [
        "secretname",
        "77.66.55",
        "c7",
        "199",
        "31337",
        &Key(9).id().to_string(),
        &Digest::of(&secret).to_string(),
    ];
    for bytes in [
        secret.clone(),
        odd_start,
        release(unknown.clone()),
        release(Recipe { key: None, ..unknown.clone() }),
        newer,
        secret[..40_000].to_vec(),
        changed(&secret, |image| image[12] = 0xC7),
        {
            let mut bad = secret.clone();
            bad[23] = 0xC7;
            bad
        },
    ] {
        for setup in [strict(), unsigned.clone()] {
            run(async {
                let lab = lab(setup).await;
                for payload in ["http://files/new.bin".to_owned(), offer(Digest::ZERO)] {
                    let end = command(&lab, &bytes, &payload).await;
                    let detail = end.error.as_ref().map(|error| error.detail.to_lowercase()).unwrap();
                    for word in words {
                        assert!(!detail.contains(word), "{word}: {end:?}");
                    }
                    assert!(lab.lines().iter().all(|line| words.iter().all(|word| !line.contains(word))));
                }
            });
        }
    }
    run(async {
        let lab = lab(strict()).await;
        let end = update(&lab, &release(unknown)).await;
        assert_eq!(code(&end), Some(Code::UnknownKey));
        assert!(end.error.unwrap().detail.contains(&Key(1).id().to_string()), "the device's own key is told");
    });
}
