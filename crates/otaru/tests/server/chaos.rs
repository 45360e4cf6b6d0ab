//! A server that is killed, and brokers that go away, in the middle of a rollout: no device lost, no deployment doubled.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::Value;

use crate::fleet::{Fleet, phase, standing};
use crate::program::{Program, free_port, have, program};

const DEVICES: usize = 200;

/// How often the server is killed; more by OTARU_KILLS.
fn kills() -> u32 {
    std::env::var("OTARU_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(50)
}

/// How often each device started each version, as the devices themselves tell.
fn boots(devices: &Program) -> BTreeMap<(String, String), usize> {
    let mut boots = BTreeMap::new();
    for line in devices.lines() {
        let Ok(event) = serde_json::from_str::<Value>(&line) else { continue };
        if event["event"] == "boot" {
            let text = |name: &str| event[name].as_str().unwrap().to_owned();
            *boots.entry((text("device"), text("version"))).or_default() += 1;
        }
    }
    boots
}

/// Every device runs the new version, and wrote it once.
#[track_caller]
fn all_updated_once(fleet: &Fleet, devices: &Program, version: &str) {
    let known = fleet.asks(&["devices", "--most", "1000"]);
    assert_eq!(known.len(), DEVICES, "no device is lost");
    for device in &known {
        assert_eq!(device["version"], version, "{device}");
        assert_eq!(device["active_rollout"], Value::Null, "{device}");
    }
    for ((device, booted), count) in boots(devices) {
        assert_eq!(count, 1, "{device} started {booted} {count} times");
    }
}

#[track_caller]
fn the_books_are_right(fleet: &Fleet) {
    assert_eq!(fleet.count("SELECT count(*) FROM deployments"), DEVICES as i64);
    assert_eq!(fleet.count("SELECT count(*) FROM deployments WHERE is_open"), 0);
    assert_eq!(fleet.count("SELECT count(*) FROM outbox"), 0);
    let check = crate::fleet::database(&fleet.data());
    let sound: String = check.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(sound, "ok");
}

#[test]
fn a_server_killed_again_and_again_loses_and_doubles_nothing() {
    let seed = rand::random::<u64>();
    println!("seed {seed}");
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut fleet = Fleet::start(&["--dev"]);
    let old = fleet.firmware("1.0.0", "healthy");
    // Large enough, and the devices slow enough, that the kills fall into the middle of it.
    let new = fleet.firmware_of("600K", "1.1.0", "healthy");
    fleet.does(&["release", "upload", &new]);
    let devices = fleet.devices_at("6", &old, DEVICES, &[]);
    let waves = ["--wave", "20", "--wave", "50%", "--concurrency", "4", "--timeout", "1m"];
    fleet.does(&[&["rollout", "create", "lamp@1.1.0"][..], &waves].concat());
    let (mut died, mut in_the_middle) = (0, 0);
    while died < kills() {
        std::thread::sleep(Duration::from_millis(rng.random_range(50..1_000)));
        fleet.kill();
        died += 1;
        in_the_middle += fleet.count("SELECT count(*) FROM rollouts WHERE phase = 'running'");
        // Devices notice that it is gone, or not.
        std::thread::sleep(Duration::from_millis(rng.random_range(0..300)));
        fleet.begin();
    }
    let rollout = fleet.rollout(1, "the rollout to complete", |rollout| phase(rollout) == "completed");
    println!("killed {died} times, {in_the_middle} of them in the middle");
    assert!(in_the_middle * 2 > i64::from(died), "the rollout was over too soon: {in_the_middle} of {died}");
    assert_eq!(standing(&rollout, "succeeded"), DEVICES as u64, "{rollout}");
    all_updated_once(&fleet, &devices, "1.1.0");
    fleet.stop();
    the_books_are_right(&fleet);
}

#[test]
fn a_broker_that_restarts_loses_and_doubles_nothing() {
    if !have(&["mosquitto"]) {
        return;
    }
    let port = free_port();
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("mosquitto.conf");
    // It keeps nothing over a restart: the worst case.
    std::fs::write(&config, format!("listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\n"))
        .unwrap();
    let mosquitto = || -> Command {
        let mut command = program("mosquitto");
        command.arg("-c").arg(&config);
        command
    };
    let mut broker = Some(Program::server(mosquitto(), port));
    let url = format!("mqtt://127.0.0.1:{port}");
    let mut fleet = Fleet::start(&["--mqtt", &url]);
    fleet.mqtt = port;
    let (old, new) = (fleet.firmware("1.0.0", "healthy"), fleet.firmware("1.1.0", "healthy"));
    fleet.does(&["release", "upload", &new]);
    let devices = fleet.devices(&old, DEVICES, &[]);
    fleet.does(&["rollout", "create", "lamp@1.1.0", "--concurrency", "20", "--timeout", "1m"]);
    for _ in 0..5 {
        std::thread::sleep(Duration::from_millis(700));
        drop(broker.take());
        std::thread::sleep(Duration::from_millis(300));
        broker = Some(Program::server(mosquitto(), port));
    }
    let rollout = fleet.rollout(1, "the rollout to complete", |rollout| phase(rollout) == "completed");
    assert_eq!(standing(&rollout, "succeeded"), DEVICES as u64, "{rollout}");
    all_updated_once(&fleet, &devices, "1.1.0");
    fleet.stop();
    the_books_are_right(&fleet);
}
