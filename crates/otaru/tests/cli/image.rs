//! `otaru image`: what it makes it also understands, and it says what is wrong with the rest.

use crate::common::{firmware, otaru, path, run};

#[test]
fn a_made_image_is_described() {
    let dir = tempfile::tempdir().unwrap();
    let file = firmware(dir.path(), "1.2.3", "healthy");
    let file = file.to_str().unwrap();
    let info = run(otaru(&["image", "info", file])).with_code(0).out;
    for text in ["esp32c3", "lamp", "1.2.3", "204800 bytes", "checksum     good"] {
        assert!(info.contains(text), "{text} in {info}");
    }
    let json = run(otaru(&["image", "info", "--json", file])).with_code(0).out;
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    let digest = otaru_format::digest::Digest::of(&std::fs::read(file).unwrap()).to_string();
    assert_eq!(value["sha256"], digest.as_str());
    assert_eq!((value["chip_id"].as_u64(), value["good"].as_bool()), (Some(5), Some(true)));
}

#[test]
fn bad_files_and_wishes_are_explained() {
    let dir = tempfile::tempdir().unwrap();
    let file = firmware(dir.path(), "1", "healthy");
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[5000] ^= 4;
    std::fs::write(&file, &bytes).unwrap();
    run(otaru(&["image", "info", file.to_str().unwrap()])).with_code(1).tells("checksum");
    std::fs::write(&file, b"\x7fELF and so on").unwrap();
    run(otaru(&["image", "info", file.to_str().unwrap()])).with_code(1).tells("espflash save-image");
    run(otaru(&["image", "info", &path(dir.path(), "none")])).with_code(1).tells("No such file");
    let out = path(dir.path(), "x.bin");
    let make = |chip: &str, behaviour: &str| {
        let mut command = otaru(&["image", "make", "--project", "p", "--version", "1", "-o", &out]);
        command.args(["--chip", chip, "--behaviour", behaviour]);
        run(command).with_code(2)
    };
    make("esp8266", "healthy").tells("esp32c3");
    make("esp32", "lazy").tells("use one of healthy, crash, hang");
}
