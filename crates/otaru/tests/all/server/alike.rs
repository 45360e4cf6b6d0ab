//! Firmware that calls itself the same in every build, from the upload to what devices report: synthetic images always, and real ones of
//! WLED where there are some.

use std::path::{Path, PathBuf};

use otaru_testing::firmware::real_folder;
use otaru_testing::{run, skipped};
use serde_json::Value;

use crate::common::otaru;
use crate::server::fleet::Fleet;

/// The names that Arduino's libraries have, in every image that is linked with them.
const PROJECT: &str = "arduino-lib-builder";
const VERSION: &str = "esp-idf: v4.4.3 6407ecb3f8";

/// Two builds of one app, with the same names.
struct Pair {
    dir: tempfile::TempDir,
    old: PathBuf,
    new: PathBuf,
    /// The name that both have for themselves.
    project: String,
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn synthetic() -> Pair {
    let dir = tempfile::tempdir().unwrap();
    let make = |name: &str, size: &str| {
        let file = dir.path().join(name);
        let mut command =
            otaru(&["image", "make", "--chip", "esp32c3", "--project", PROJECT, "--version", VERSION]);
        command.args(["--size", size, "-o", text(&file)]);
        run(command).with_code(0);
        file
    };
    let (old, new) = (make("app_0.14.3.bin", "40K"), make("app_0.14.4.bin", "44K"));
    Pair { old, new, dir, project: PROJECT.to_owned() }
}

/// Pairs of WLED's releases below `OTARU_FIRMWARE_PAIRS`, under names that say which they are.
fn real() -> Vec<Pair> {
    let entries = real_folder().into_iter().flat_map(std::fs::read_dir).flatten().flatten();
    let mut folders: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    folders.retain(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("wled-")));
    folders.sort();
    let pair = |folder: &PathBuf| {
        let dir = tempfile::tempdir().unwrap();
        let copy = |from: &str, to: &str| {
            let to = dir.path().join(to);
            std::fs::copy(folder.join(from), &to).unwrap();
            to
        };
        let (old, new) = (copy("old.bin", "app_0.14.3.bin"), copy("new.bin", "app_0.14.4.bin"));
        let about = run(otaru(&["image", "info", "--json", text(&old)])).with_code(0);
        assert!(about.err.is_empty());
        let about: Value = serde_json::from_str(&about.out).unwrap();
        assert_eq!(about["named_by_framework"], true, "{about}");
        let project = about["project"].as_str().unwrap().to_owned();
        Pair { old, new, dir, project }
    };
    // Each is megabytes: two of them show as much as all.
    folders.iter().take(2).map(pair).collect()
}

/// Form in which a server offers the two, and the name its devices go by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Signed by the server, for devices that have a product of their own and take nothing unsigned.
    Signed,
    /// By a server without a key, for devices that have a product of their own.
    Unsigned,
    /// As bare images, under their own name.
    Bare,
}

#[track_caller]
fn update(pair: &Pair, way: Way) {
    let path = |name: &str| pair.dir.path().join(name).display().to_string();
    let (key, public) = (path("release.pem"), path("release.pub.pem"));
    if way == Way::Signed && !Path::new(&key).exists() {
        run(otaru(&["keygen", "-o", &key])).with_code(0);
    }
    let fleet = match way {
        Way::Signed => Fleet::start(&["--dev", "--signing-key", &key]),
        Way::Unsigned | Way::Bare => Fleet::start(&["--dev"]),
    };
    let product = if way == Way::Bare { pair.project.as_str() } else { "wled" };
    let device: &[&str] = match way {
        Way::Signed => &["--product", "wled", "--key", &public],
        Way::Unsigned => &["--product", "wled"],
        Way::Bare => &[],
    };
    let _devices = fleet.devices(text(&pair.old), 2, device);
    let upload = |file: &Path, version: &str| {
        let mut args = vec!["release", "upload", text(file), "--version", version];
        if way != Way::Bare {
            args.extend(["--product", "wled"]);
        }
        let ended = fleet.tries(&args).with_code(0);
        if way != Way::Bare {
            ended.tells("Config::product").tells("\"wled\"");
        }
    };
    upload(&pair.old, "0.14.3");
    // They ran it before it was a release, and are called so now.
    let devices = fleet.asks(&["devices"]);
    assert!(devices.iter().all(|device| device["version"] == "0.14.3"), "{devices:?}");
    assert!(devices.iter().all(|device| device["product"] == product), "{devices:?}");
    upload(&pair.new, "0.14.4");
    let old_release = fleet.asks(&["release", "show", &format!("{product}@0.14.3")]).remove(0);
    let release = fleet.asks(&["release", "show", &format!("{product}@0.14.4")]).remove(0);
    assert_eq!(release["signed_by"].is_string(), way == Way::Signed, "{release}");
    assert_eq!(release["file"].is_string(), way != Way::Bare, "{release}");
    let dry = fleet.does(&[
        "rollout",
        "create",
        &format!("{product}@0.14.4"),
        "--versions",
        "<0.14.4",
        "--dry-run",
    ]);
    let short = |release: &Value| release["image_short"].as_str().unwrap().to_owned();
    assert!(
        dry.contains("2 devices") && dry.contains(&short(&release)) && dry.contains("app_0.14.4.bin"),
        "{dry}"
    );
    fleet.does(&["rollout", "create", &format!("{product}@0.14.4"), "--versions", "<0.14.4", "--watch"]);
    let devices = fleet.asks(&["devices", "--versions", ">=0.14.4"]);
    assert_eq!(devices.len(), 2, "{devices:?}");
    assert!(devices.iter().all(|device| device["state"] == "confirmed"), "{devices:?}");
    let listed = fleet.does(&["devices"]);
    assert!(listed.contains("0.14.4") && listed.contains(&short(&release)), "{listed}");
    let listed = fleet.does(&["release", "list"]);
    for text in [&short(&old_release), &short(&release), "app_0.14.3.bin", "app_0.14.4.bin"] {
        assert!(listed.contains(text), "{text} in {listed}");
    }
    let shown = fleet.does(&["devices", "show", "sim-0001"]);
    assert!(shown.contains("confirmed 0.14.4") && shown.contains("0.14.4 (runs 0.14.3)"), "{shown}");
    assert!(!shown.contains("esp-idf"), "{shown}");
    // And back: without a signature as well as with one.
    fleet.does(&["rollout", "create", "--undo", "1", "--watch"]);
    let devices = fleet.asks(&["devices"]);
    assert!(devices.iter().all(|device| device["version"] == "0.14.3"), "{way:?} {devices:?}");
}

#[test]
fn two_builds_with_the_same_names_are_rolled_out_signed() {
    update(&synthetic(), Way::Signed);
}

#[test]
fn two_builds_with_the_same_names_are_rolled_out_without_a_key() {
    update(&synthetic(), Way::Unsigned);
}

#[test]
fn two_builds_with_the_same_names_are_rolled_out_as_they_are() {
    update(&synthetic(), Way::Bare);
}

#[test]
fn two_releases_of_wled_are_rolled_out() {
    let pairs = real();
    if pairs.is_empty() {
        return skipped(
            "no real firmware: OTARU_FIRMWARE_PAIRS names a folder with wled-*/old.bin and new.bin",
        );
    }
    for (pair, way) in pairs.iter().zip([Way::Signed, Way::Unsigned]) {
        update(pair, way);
    }
    if let Some(pair) = pairs.first() {
        update(pair, Way::Bare);
    }
}

/// Without names of their own they are told apart by digits and files, and the upload says what would help.
#[test]
fn two_builds_without_other_names_are_told_apart_by_their_digits() {
    let pair = synthetic();
    run(otaru(&["image", "info", text(&pair.old)])).with_code(0).tells("--version");
    let fleet = Fleet::start(&["--dev"]);
    fleet.tries(&["release", "upload", text(&pair.old)]).with_code(0).tells("framework").tells("--version");
    fleet.tries(&["release", "upload", text(&pair.new)]).with_code(0).tells("has the version");
    let name = format!("{PROJECT}@{VERSION}");
    fleet.tries(&["release", "show", &name]).with_code(1).tells("several releases").tells("app_0.14.4.bin");
    let _devices = fleet.devices(text(&pair.old), 2, &[]);
    let shown = fleet.asks(&["release", "show", "2"]).remove(0);
    fleet.does(&["rollout", "create", "2", "--watch"]);
    let devices = fleet.asks(&["devices"]);
    assert!(devices.iter().all(|device| device["image_short"] == shown["image_short"]), "{devices:?}");
    let rollout = fleet.does(&["rollout", "show", "1"]);
    assert!(
        rollout.contains(shown["image_short"].as_str().unwrap()) && rollout.contains("app_0.14.4.bin"),
        "{rollout}"
    );
}
