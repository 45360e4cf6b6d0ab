//! A release from its image to its verification, and every way it can go bad in between.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use otaru_format::digest::Digest;
use otaru_format::release::{KeyId, MAX_SEQUENCE, PayloadKind, ReleaseError};
use otaru_release::build::{BuildError, Options, Progress, build};
use otaru_release::file::{ReleaseFile, is_release};
use otaru_release::keys::SecretKey;
use otaru_release::sign::{SignatureError, renumber, resign, resign_as};
use otaru_release::verify::{Patches, VerifyError, stored_frames, try_patches, verify, verify_contents};
use otaru_testing::firmware::{image, image_of};

/// A key that is no secret.
fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed(&[seed; 32])
}

fn release(options: &Options) -> otaru_release::build::Unsigned {
    build(&image("lamp", "1.2.3"), options, &mut |_| ()).unwrap()
}

#[test]
fn a_release_tells_what_its_image_is() {
    let image = image("lamp", "1.2.3");
    let mut states: Vec<Progress> = Vec::new();
    let unsigned = build(&image, &Options::new(7), &mut |state| states.push(state)).unwrap();
    let file = unsigned.sign(&key(1)).unwrap();
    assert!(is_release(&file) && !is_release(&image));
    let verified = verify(&file, &[key(2).public(), key(1).public()]).unwrap();
    let manifest = verified.file.manifest;
    assert_eq!((manifest.product, manifest.version, manifest.chip_id), ("lamp", "1.2.3", 5));
    assert_eq!((manifest.sequence, manifest.size as usize), (7, image.len()));
    assert_eq!(manifest.image, Digest::of(&image));
    let payloads: Vec<_> = manifest.payloads().collect();
    assert_eq!(payloads[0].kind, PayloadKind::Lzma);
    assert_eq!(payloads[1].kind, PayloadKind::Raw);
    assert_eq!(verified.file.payload(&payloads[1]), Some(&image[..]));
    // The noise is stored as it is.
    assert_eq!(stored_frames(&verified.file, &payloads[0]), 1);
    assert_eq!(states.last().map(|state| (state.done, state.taken)), Some((4, image.len() as u64)));
}

#[test]
fn the_same_image_makes_the_same_file() {
    let options = Options::new(7);
    assert_eq!(release(&options).sign(&key(1)).unwrap(), release(&options).sign(&key(1)).unwrap());
}

#[test]
fn what_follows_an_image_is_left_out() {
    let mut longer = image("lamp", "1.2.3");
    longer.extend([0xFF; 4096]);
    let release = build(&longer, &Options::new(7), &mut |_| ()).unwrap().sign(&key(1)).unwrap();
    let image = image("lamp", "1.2.3");
    assert_eq!(ReleaseFile::parse(&release).unwrap().manifest.image, Digest::of(&image));
}

/// The image with a signature block of secure boot v2 behind it.
fn signed_image() -> Vec<u8> {
    let mut file = image("lamp", "1.2.3");
    file.resize(file.len().next_multiple_of(4096), 0xFF);
    file.extend([0xE7, 0x02]);
    file.resize(file.len() + 4094, 0x5A);
    file
}

#[test]
fn a_signature_block_is_kept() {
    let (stored, plain) = (signed_image(), image("lamp", "1.2.3"));
    let file = build(&stored, &Options::new(7), &mut |_| ()).unwrap().sign(&key(1)).unwrap();
    let verified = verify(&file, &[key(1).public()]).unwrap().file;
    assert_eq!(verified.manifest.image, Digest::of(&plain), "an image is the same with and without");
    assert_eq!(verified.manifest.size as usize, stored.len());
    let raw = verified.manifest.payloads().find(|payload| payload.kind == PayloadKind::Raw).unwrap();
    assert_eq!(verified.payload(&raw), Some(&stored[..]));
    let longer = [&stored[..], &[1; 99]].concat();
    assert_eq!(build(&longer, &Options::new(7), &mut |_| ()).unwrap().sign(&key(1)).unwrap(), file);
    // A patch makes the block as well.
    let old = image("lamp", "1.2.2");
    let options = Options { bases: vec![old.clone()], ..Options::new(7) };
    let file = build(&stored, &options, &mut |_| ()).unwrap().sign(&key(1)).unwrap();
    let verified = verify(&file, &[key(1).public()]).unwrap().file;
    assert!(verified.manifest.payloads().any(|payload| payload.kind.needs_base()));
    assert_eq!(try_patches(&verified, &[old]), Ok(Patches { good: 1, untried: 0 }));
}

#[test]
fn a_merged_image_becomes_no_release() {
    for (offset, bootloader) in [(0, image_of("", "", &[1; 400])), (0x1000, image("lamp", "1.2.3"))] {
        let mut file = vec![0xFF; offset];
        file.extend(bootloader);
        if offset == 0 {
            // No descriptor.
            file[32] ^= 1;
        }
        file.resize(file.len().max(0x8000), 0xFF);
        file.splice(0x8000..0x8002.min(file.len()), [0xAA, 0x50]);
        file.extend(image("lamp", "1.2.3"));
        let error = build(&file, &Options::new(7), &mut |_| ()).unwrap_err();
        assert_eq!(error, BuildError::Merged);
        assert!(error.to_string().contains("the application's own .bin"), "{error}");
    }
}

#[test]
fn further_products_are_carried_in_order() {
    let also = ["old", "older", "old", "lamp"].map(str::to_owned).to_vec();
    let file = release(&Options { also, ..Options::new(9) }).without_signature().unwrap();
    let manifest = verify_contents(&file).unwrap().file.manifest;
    assert_eq!(manifest.also().collect::<Vec<_>>(), ["old", "older"]);
    assert!(manifest.is_for("lamp") && manifest.is_for("older") && !manifest.is_for("lock"));
    let also = (0..5).map(|number| number.to_string()).collect();
    let options = Options { also, ..Options::new(9) };
    assert_eq!(build(&image("lamp", "1"), &options, &mut |_| ()).unwrap_err(), BuildError::TooManyNames);
}

#[test]
fn conditions_are_carried() {
    let options = Options {
        product: Some("lantern".into()),
        min_base: Some("1.0.0".into()),
        revoked: vec![KeyId([2; 8]), KeyId([1; 8]), KeyId([2; 8])],
        compress: false,
        ..Options::new(9)
    };
    let file = release(&options).without_signature().unwrap();
    let manifest = verify_contents(&file).unwrap().file.manifest;
    assert_eq!((manifest.product, manifest.min_base), ("lantern", Some("1.0.0")));
    assert_eq!(manifest.revoked().collect::<Vec<_>>(), [KeyId([1; 8]), KeyId([2; 8])]);
    assert_eq!(manifest.payloads().count(), 1);
}

#[test]
fn a_new_key_keeps_the_manifest() {
    let old = release(&Options::new(7)).sign(&key(1)).unwrap();
    let new = resign(&old, &key(2)).unwrap();
    assert_eq!(verify(&new, &[key(1).public()]).unwrap_err(), unknown(2));
    verify(&new, &[key(2).public()]).unwrap();
    let manifest = |file: &[u8]| ReleaseFile::parse(file).unwrap().envelope.payload().to_vec();
    assert_eq!(manifest(&old), manifest(&new));
    // An unsigned one can be signed later, where the key is.
    let unsigned = release(&Options::new(7)).without_signature().unwrap();
    assert_eq!(resign(&unsigned, &key(2)).unwrap(), new);
}

#[test]
fn a_higher_sequence_changes_nothing_else() {
    let options = Options {
        min_base: Some("1.0.0".into()),
        revoked: vec![KeyId([1; 8])],
        bases: vec![image("lamp", "1.2.2")],
        ..Options::new(23)
    };
    let old = release(&options).sign(&key(1)).unwrap();
    // Each length that a number can have in CBOR, and what a build with that number makes.
    for sequence in [24, 255, 256, 65_536, 1_764_000_000_000, MAX_SEQUENCE] {
        let again = resign_as(&old, sequence, &key(1)).unwrap();
        assert!(again == release(&Options { sequence, ..options.clone() }).sign(&key(1)).unwrap());
        verify(&again, &[key(1).public()]).unwrap();
    }
    for low in [0, 22, 23] {
        assert!(resign_as(&old, low, &key(1)).unwrap_err().to_string().contains("not above"));
    }
    for high in [MAX_SEQUENCE + 1, u64::MAX] {
        assert!(resign_as(&old, high, &key(1)).unwrap_err().to_string().contains("9007199254740991"));
    }
}

fn unknown(seed: u8) -> VerifyError {
    VerifyError::Signature(SignatureError::UnknownKey(key(seed).public().id()))
}

#[test]
fn nobody_revokes_the_key_he_signs_with() {
    let options = Options { revoked: vec![key(1).public().id()], ..Options::new(7) };
    assert!(release(&options).sign(&key(1)).unwrap_err().to_string().contains("revokes"));
    let file = release(&options).sign(&key(2)).unwrap();
    assert!(resign(&file, &key(1)).is_err());
}

#[test]
fn images_that_do_not_say_what_they_are() {
    let make = |project, version| build(&image(project, version), &Options::new(1), &mut |_| ()).unwrap_err();
    assert_eq!(make("", "1"), BuildError::NoProduct);
    assert_eq!(make("la\nmp", "1"), BuildError::NoProduct);
    assert_eq!(make("p", ""), BuildError::NoVersion);
    let bad = |options: Options| build(&image("p", "1"), &options, &mut |_| ()).unwrap_err();
    assert!(bad(Options::new(0)).to_string().contains("sequence"));
    assert_eq!(bad(Options { min_base: Some("new".into()), ..Options::new(1) }), BuildError::MinBase);
    let revoked = (0..5).map(|byte| KeyId([byte; 8])).collect();
    assert_eq!(bad(Options { revoked, ..Options::new(1) }), BuildError::TooManyRevoked);
    assert!(matches!(build(b"<html>", &Options::new(1), &mut |_| ()), Err(BuildError::Image(_))));
}

#[test]
fn damage_is_found_wherever_it_is() {
    let good = release(&Options::new(7)).sign(&key(1)).unwrap();
    let keys = [key(1).public()];
    let area = good.len() - ReleaseFile::parse(&good).unwrap().area().len();
    // All of header and envelope, and some of every block.
    for at in (0..area).chain((area..good.len()).step_by(7919)).chain([good.len() - 1]) {
        let mut bad = good.clone();
        bad[at] ^= 0x04;
        assert!(verify(&bad, &keys).is_err(), "byte {at}");
    }
    for len in (0..area).chain([good.len() - 1]) {
        assert!(verify(&good[..len], &keys).is_err(), "{len} bytes");
    }
    assert_eq!(verify(&good[..100], &keys).unwrap_err(), VerifyError::Release(ReleaseError::Truncated));
    let longer = [&good[..], b"\0"].concat();
    assert!(verify(&longer, &keys).unwrap_err().to_string().contains("follows"));
}

#[test]
fn a_signature_of_something_else_is_refused() {
    let one = release(&Options::new(7)).sign(&key(1)).unwrap();
    let other = release(&Options::new(8)).sign(&key(1)).unwrap();
    // The signature is the envelope's last 64 bytes.
    let end = |file: &[u8]| file.len() - ReleaseFile::parse(file).unwrap().area().len();
    let mut mixed = one.clone();
    mixed[end(&one) - 64..end(&one)].copy_from_slice(&other[end(&other) - 64..end(&other)]);
    let bad = VerifyError::Signature(SignatureError::Bad(key(1).public().id()));
    assert_eq!(verify(&mixed, &[key(1).public()]).unwrap_err(), bad);
    let unsigned = release(&Options::new(7)).without_signature().unwrap();
    let error = VerifyError::Signature(SignatureError::Unsigned);
    assert_eq!(verify(&unsigned, &[key(1).public()]).unwrap_err(), error);
}

#[test]
fn a_release_may_be_called_otherwise_than_its_image() {
    let names = Options { product: Some("wled".into()), version: Some("0.14.4".into()), ..Options::new(7) };
    let file = image("arduino-lib-builder", "esp-idf: v4.4.3 6407ecb3f8");
    let unsigned = build(&file, &names, &mut |_| ()).unwrap();
    let plain = unsigned.without_signature().unwrap();
    let manifest = verify_contents(&plain).unwrap().file.manifest;
    assert_eq!((manifest.product, manifest.version, manifest.image), ("wled", "0.14.4", Digest::of(&file)));
    for bad in ["", "a\nb", "a version of more than 32 bytes .."] {
        let names = Options { version: Some(bad.into()), ..Options::new(7) };
        assert!(build(&file, &names, &mut |_| ()).is_err(), "{bad:?}");
    }
    // Without a signature, the way back is a higher number, too.
    let again = renumber(&plain, 9).unwrap();
    let manifest = verify_contents(&again).unwrap().file.manifest;
    assert_eq!((manifest.sequence, manifest.version), (9, "0.14.4"));
    assert!(renumber(&plain, 7).is_err() && renumber(&plain, 6).is_err());
}
