//! Firmware that a device takes and refuses: for which product, chip, revision and flash, as which image, and what it
//! makes of files that are not quite an image. A lamp's image is never confirmed on a lock.
#![expect(clippy::unwrap_used, reason = "a scenario that cannot be set up has failed")]

mod chip;
mod identity;
mod merged;
mod pieces;
mod product;

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

/// A device of this chip, and images whose headers ask for something of it.
fn facts(revision: u16, flash_size: u32) -> ChipFacts {
    ChipFacts { revision: Some(revision), flash_size: Some(flash_size) }
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
