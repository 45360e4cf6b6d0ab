//! Patches: made, applied, looked into; and never applied to another image.

use otaru_testing::run;

use crate::common::{firmware, otaru};

#[test]
fn from_one_image_to_another() {
    let dir = tempfile::tempdir().unwrap();
    let in_dir = |args: &[&str]| {
        let mut command = otaru(args);
        command.current_dir(dir.path());
        run(command)
    };
    let (old, new) = (firmware(dir.path(), "1.0.0", "healthy"), firmware(dir.path(), "1.1.0", "healthy"));
    let (old, new) = (old.to_str().unwrap(), new.to_str().unwrap());
    in_dir(&["delta", old, new, "-o", "a.patch"]).with_code(0);
    in_dir(&["delta", "apply", old, "a.patch", "-o", "made.bin"]).with_code(0);
    assert!(std::fs::read(dir.path().join("made.bin")).unwrap() == std::fs::read(new).unwrap());
    in_dir(&["delta", "apply", new, "a.patch", "-o", "bad.bin"]).with_code(1).tells("another old image");
    assert!(!dir.path().join("bad.bin").exists());
    in_dir(&["delta", old, new, "-o", old]).with_code(1).tells("overwrite");
    let stat = in_dir(&["delta", "stat", "--json", old, new]).with_code(0);
    let stat: serde_json::Value = serde_json::from_str(&stat.out).unwrap();
    let patch = std::fs::metadata(dir.path().join("a.patch")).unwrap().len();
    assert_eq!(stat["bytes"], patch);
    assert_eq!(stat["copied"].as_u64().unwrap() + stat["new_bytes"].as_u64().unwrap(), stat["new_image"]);
    assert!(in_dir(&["delta", "stat", old, new]).with_code(0).out.contains("patch: "));
    in_dir(&["delta", old]).with_code(2);
}
