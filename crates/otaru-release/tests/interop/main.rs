//! COSE by other people: what is made here verifies with pycose, cryptography and cbor2, and what they make is taken.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use otaru_release::build::{Options, build};
use otaru_release::keys::SecretKey;
use otaru_release::output::Existing;
use otaru_release::verify::{VerifyError, verify};
use otaru_testing::firmware::image;
use otaru_testing::skip;

/// A key that is no secret.
fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed(&[seed; 32])
}

/// A Python with these packages, or a skip.
fn python(test: &str) -> Option<PathBuf> {
    let fetched = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tools/venv/bin/python3");
    let named = env::var_os("OTARU_COSE_PYTHON").map(PathBuf::from);
    let knows = |python: &PathBuf| {
        let ask = Command::new(python).args(["-c", "import cbor2, cryptography, pycose"]).output();
        ask.is_ok_and(|output| output.status.success())
    };
    let found = named.into_iter().chain([fetched, "python3".into()]).find(knows);
    if found.is_none() {
        skip(test, "no pycose: cargo xtask test --install, or pip install pycose cryptography cbor2");
    }
    found
}

/// Runs the script: whether it was content, and what it printed.
fn cose(python: &Path, dir: &Path, args: &[&str]) -> (bool, String) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/cose.py");
    let output = Command::new(python).arg(script).args(args).current_dir(dir).output().unwrap();
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), text)
}

#[test]
fn our_releases_verify_there() {
    let Some(python) = python("our_releases_verify_there") else { return };
    let dir = tempfile::tempdir().unwrap();
    key(1).public().write(&dir.path().join("k.pub.pem"), Existing::Keep).unwrap();
    let also = vec!["lantern".into(), "lamp-pro".into()];
    let unsigned = build(&image("lamp", "1.2.3"), &Options { also, ..Options::new(7) }, &mut |_| ()).unwrap();
    let mut file = unsigned.sign(&key(1)).unwrap();
    std::fs::write(dir.path().join("a.otaru"), &file).unwrap();
    let (good, said) = cose(&python, dir.path(), &["read", "a.otaru", "k.pub.pem"]);
    assert!(good, "{said}");
    let manifest: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!((&manifest["product"], &manifest["sequence"]), (&"lamp".into(), &7.into()));
    assert_eq!(manifest["also"], serde_json::json!(["lamp-pro", "lantern"]));
    assert_eq!(manifest["image"], otaru_format::digest::Digest::of(&image("lamp", "1.2.3")).to_string());
    // A flipped bit of the product's name.
    let at = file.windows(4).position(|text| text == b"lamp").unwrap();
    file[at] ^= 1;
    std::fs::write(dir.path().join("a.otaru"), &file).unwrap();
    let (good, said) = cose(&python, dir.path(), &["read", "a.otaru", "k.pub.pem"]);
    assert!(!good && said.contains("refuses the signature"), "{said}");
}

#[test]
fn their_releases_verify_here() {
    let Some(python) = python("their_releases_verify_here") else { return };
    let dir = tempfile::tempdir().unwrap();
    key(1).write(&dir.path().join("k.pem"), Existing::Keep).unwrap();
    std::fs::write(dir.path().join("image.bin"), image("lamp", "1.2.3")).unwrap();
    let (good, said) = cose(&python, dir.path(), &["make", "image.bin", "k.pem", "b.otaru"]);
    assert!(good, "{said}");
    let file = std::fs::read(dir.path().join("b.otaru")).unwrap();
    let manifest = verify(&file, &[key(1).public()]).unwrap().file.manifest;
    assert_eq!((manifest.product, manifest.version, manifest.sequence), ("lamp", "1.2.3", 1_000_000));
    assert_eq!(manifest.also().collect::<Vec<_>>(), ["lamp-pro", "lantern"]);
    assert!(matches!(verify(&file, &[key(2).public()]), Err(VerifyError::Signature(_))));
}
