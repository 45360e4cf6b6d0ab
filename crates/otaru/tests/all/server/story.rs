//! The first steps of a newcomer: serve, virtual devices, upload and roll out; then a bad release, and back.

use serde_json::Value;

use crate::server::fleet::{Fleet, phase, standing};

#[test]
fn three_commands_update_a_fleet_and_a_bad_release_stops() {
    let fleet = Fleet::start(&["--dev"]);
    let (old, new, bad) = (
        fleet.firmware("1.0.0", "healthy"),
        fleet.firmware("1.1.0", "healthy"),
        fleet.firmware("1.2.0", "crash"),
    );
    let _devices = fleet.devices(&old, 20, &[]);
    fleet.does(&["release", "upload", &new, "--rollout"]);
    let versions: Vec<Value> = fleet.asks(&["devices"]);
    assert!(versions.iter().all(|device| device["version"] == "1.1.0" && device["state"] == "confirmed"));

    fleet.does(&["release", "upload", &bad]);
    let ended = fleet.tries(&[
        "rollout",
        "create",
        "lamp@1.2.0",
        "--wave",
        "4",
        "--stop",
        "50",
        "--minimum",
        "3",
        "--watch",
    ]);
    let ended = ended.with_code(1);
    assert!(ended.out.contains("stopped"), "{}", ended.out);
    assert!(ended.out.contains("panic: panicked at"), "the reason is told: {}", ended.out);
    let rollout = fleet.rollout(2, "the stop", |rollout| phase(rollout) == "stopped");
    assert_eq!(standing(&rollout, "rolled_back"), 4, "only the canaries tried it: {rollout}");
    assert_eq!(rollout["reasons"]["panic"], 4, "{rollout}");
    // They are not offered it again before they have told how it ended, and so still say why.
    let troubled = fleet.asks(&["devices", "--state", "rolled_back"]);
    assert_eq!(troubled.len(), 4, "{troubled:?}");
    assert!(troubled.iter().all(|device| device["error_code"] == "panic"), "{troubled:?}");
    fleet.does(&["rollout", "abort", "2"]);
    let versions: Vec<Value> = fleet.asks(&["devices"]);
    assert!(versions.iter().all(|device| device["version"] == "1.1.0"), "no device was lost");

    // What they ran before was never uploaded: that is told at once, and nothing is made.
    let refused = fleet.tries(&["rollout", "create", "--undo", "1"]).with_code(1);
    refused.tells("version 1.0.0").tells("otaru release upload");
    fleet.does(&["release", "upload", &old]);
    fleet.does(&["rollout", "create", "--undo", "1", "--watch"]);
    let versions: Vec<Value> = fleet.asks(&["devices"]);
    assert!(versions.iter().all(|device| device["version"] == "1.0.0"), "{versions:?}");
}

#[test]
fn a_fleet_goes_back_to_what_it_ran() {
    let fleet = Fleet::start(&["--dev"]);
    let (old, new) = (fleet.firmware("1.0.0", "healthy"), fleet.firmware("1.1.0", "healthy"));
    fleet.does(&["release", "upload", &old]);
    let _devices = fleet.devices(&old, 5, &[]);
    fleet.does(&["release", "upload", &new, "--rollout"]);
    fleet.does(&["rollout", "create", "--undo", "1", "--watch"]);
    let devices: Vec<Value> = fleet.asks(&["devices"]);
    assert!(devices.iter().all(|device| device["version"] == "1.0.0"), "{devices:?}");
}

#[test]
fn a_server_with_a_key_signs_and_makes_patches() {
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("release.pem").display().to_string();
    otaru_testing::run(crate::common::otaru(&["keygen", "-o", &key])).with_code(0);
    let public = dir.path().join("release.pub.pem").display().to_string();
    let fleet = Fleet::start(&["--dev", "--signing-key", &key]);
    let (old, new) = (fleet.firmware("1.0.0", "healthy"), fleet.firmware("1.1.0", "healthy"));
    fleet.does(&["release", "upload", &old]);
    // They take nothing that is not signed.
    let _devices = fleet.devices(&old, 4, &["--key", &public]);
    fleet.does(&["release", "upload", &new]);
    let release = &fleet.asks(&["release", "show", "lamp@1.1.0"])[0];
    assert!(release["signed_by"].is_string(), "{release}");
    assert_eq!(release["deltas"].as_array().unwrap().len(), 1, "a patch from what the fleet runs: {release}");
    fleet.does(&["rollout", "create", "lamp@1.1.0", "--watch"]);
    let devices: Vec<Value> = fleet.asks(&["devices"]);
    assert!(devices.iter().all(|device| device["version"] == "1.1.0"), "{devices:?}");
    let sequence = |name: &str| fleet.asks(&["release", "show", name])[0]["sequence"].as_u64().unwrap();
    let (first, newest) = (sequence("lamp@1.0.0"), sequence("lamp@1.1.0"));
    assert!(first < newest && first > 1_600_000_000_000, "{first} and {newest} are milliseconds");
    // Devices take no lower sequence, and no command makes them: to go back, the old image is signed again.
    fleet.does(&["rollout", "create", "--undo", "1", "--watch"]);
    let devices: Vec<Value> = fleet.asks(&["devices"]);
    assert!(devices.iter().all(|device| device["version"] == "1.0.0"), "{devices:?}");
    assert!(sequence("lamp@1.0.0") > newest);
    // And forward again.
    fleet.does(&["rollout", "create", "lamp@1.1.0", "--watch"]);
    let devices: Vec<Value> = fleet.asks(&["devices"]);
    assert!(devices.iter().all(|device| device["version"] == "1.1.0"), "{devices:?}");
}

#[test]
fn without_the_key_the_way_back_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let (key, public) = (path("release.pem"), path("release.pub.pem"));
    let does = |args: &[&str]| otaru_testing::run(crate::common::otaru(args)).with_code(0);
    does(&["keygen", "-o", &key]);
    let fleet = Fleet::start(&["--dev"]);
    let (old, new) = (fleet.firmware("1.0.0", "healthy"), fleet.firmware("1.1.0", "healthy"));
    let (old_release, new_release, again) = (path("old.otaru"), path("new.otaru"), path("again.otaru"));
    does(&["release", &old, "--key", &key, "--sequence", "100", "-o", &old_release]);
    does(&["release", &new, "--key", &key, "--sequence", "200", "-o", &new_release]);
    fleet.does(&["release", "upload", &old_release]);
    let _devices = fleet.devices(&old, 3, &["--key", &public]);
    fleet.does(&["release", "upload", &new_release, "--rollout"]);

    let refused = fleet.tries(&["rollout", "create", "--undo", "1"]).with_code(1);
    let said = format!("{}{}", refused.out, refused.err);
    assert!(said.contains("otaru resign lamp-1.0.0.otaru --key KEY.pem --sequence 201"), "{said}");
    // Nor is a number given twice.
    does(&["resign", &old_release, "--key", &key, "--sequence", "200", "-o", &again]);
    let taken = fleet.tries(&["release", "upload", &again]).with_code(1);
    assert!(taken.err.contains("sequence 200 already") && taken.err.contains("201"), "{}", taken.err);

    does(&["resign", &old_release, "--key", &key, "--sequence", "201", "-o", &again]);
    fleet.does(&["release", "upload", &again]);
    fleet.does(&["rollout", "create", "--undo", "1", "--watch"]);
    let devices: Vec<Value> = fleet.asks(&["devices"]);
    assert!(devices.iter().all(|device| device["version"] == "1.0.0"), "{devices:?}");
}
