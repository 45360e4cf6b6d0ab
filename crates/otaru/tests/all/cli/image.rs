//! `otaru image`: what it makes it also understands, and it says what is wrong with the rest.

use otaru_testing::run;

use crate::common::{firmware, otaru, path};

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

#[test]
fn an_image_can_be_made_for_some_chips_only() {
    let dir = tempfile::tempdir().unwrap();
    let out = path(dir.path(), "x.bin");
    let make = |more: &[&str]| {
        let mut command =
            otaru(&["image", "make", "--chip", "esp32", "--project", "p", "--version", "1", "-o", &out]);
        command.args(more);
        run(command)
    };
    let info = || -> serde_json::Value {
        serde_json::from_str(&run(otaru(&["image", "info", "--json", &out])).with_code(0).out).unwrap()
    };
    let facts = |value: &serde_json::Value| {
        let number = |name: &str| value[name].as_u64();
        (number("flash_size"), number("min_revision"), number("max_revision"))
    };
    make(&[]).with_code(0);
    assert_eq!(facts(&info()), (Some(4 << 20), Some(0), Some(99)));
    make(&["--flash-size", "16M", "--min-revision", "300"]).with_code(0);
    assert_eq!(facts(&info()), (Some(16 << 20), Some(300), None));
    make(&["--min-revision", "1", "--max-revision", "199"]).with_code(0);
    assert_eq!(facts(&info()), (Some(4 << 20), Some(1), Some(199)));
    make(&["--flash-size", "3M"]).with_code(1).tells("1M, 2M, 4M");
    make(&["--flash-size", "256M"]).with_code(1).tells("1M, 2M, 4M");
    make(&["--min-revision", "3", "--max-revision", "2"]).with_code(1).tells("admits no chip");
}

#[test]
fn every_behaviour_is_in_the_help() {
    let help = run(otaru(&["image", "make", "--help"])).with_code(0).out;
    for behaviour in otaru_sim::firmware::Behaviour::ALL {
        assert!(help.contains(&behaviour.to_string()), "{behaviour} is not in {help}");
    }
}

#[test]
fn a_merged_flash_image_is_no_release_and_it_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let app = std::fs::read(firmware(dir.path(), "1", "healthy")).unwrap();
    let (file, small) = (path(dir.path(), "merged.bin"), path(dir.path(), "small.bin"));
    let make = ["image", "make", "--chip", "esp32c3", "--project", "p", "--version", "1", "--size", "16K"];
    run(otaru(&[&make[..], &["-o", &small]].concat())).with_code(0);
    let bootloader = std::fs::read(&small).unwrap();
    let layout = otaru_format::partition::default_layout();
    let start = layout.iter().find(|partition| partition.label == "ota_0").unwrap().offset as usize;
    let (mut merged, mut table) = (vec![0xFF; start], [0; otaru_format::partition::TABLE_LEN]);
    otaru_format::partition::emit(&layout, &mut table).unwrap();
    merged[0x8000..0x8000 + table.len()].copy_from_slice(&table);
    // The bootloader is where newer chips have it, or the first ones.
    for place in [0, 0x1000] {
        merged[..0x8000].fill(0xFF);
        merged[place..place + bootloader.len()].copy_from_slice(&bootloader);
        let whole = [&merged[..], &app].concat();
        std::fs::write(&file, &whole).unwrap();
        let said = run(otaru(&["inspect", &file])).with_code(1);
        said.tells("merged flash image").tells(&format!("skip={}", start / 4096));
        let patch = path(dir.path(), "x.patch");
        for (old, new) in [(&file, &small), (&small, &file)] {
            run(otaru(&["delta", old, new, "-o", &patch])).with_code(1).tells("merged flash image");
        }
        run(otaru(&["delta", "stat", &file, &small])).with_code(1).tells("merged flash image");
        std::fs::write(&file, &whole[start..]).unwrap();
        run(otaru(&["image", "info", &file])).with_code(0);
    }
}
