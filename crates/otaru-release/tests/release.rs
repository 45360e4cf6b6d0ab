//! A release from its image to its verification, and every way it can go bad in between.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "common/blocks.rs"]
mod blocks;
mod common;

use blocks::{image, key};
use otaru_format::digest::Digest;
use otaru_format::release::{KeyId, PayloadKind, ReleaseError};
use otaru_release::build::{BuildError, Options, Progress, build};
use otaru_release::file::{ReleaseFile, is_release};
use otaru_release::sign::{SignatureError, resign};
use otaru_release::verify::{VerifyError, stored_frames, verify, verify_contents};

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
