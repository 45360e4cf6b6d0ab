//! A server that is killed, and brokers that go away, in the middle of a rollout: no device lost, no deployment doubled.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use otaru_testing::{Program, eventually, free_port, have, program};
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::Value;

use crate::server::fleet::{Fleet, phase, standing};

const DEVICES: usize = 200;

/// Returns the number of times that the server is killed; more by OTARU_KILLS.
fn kills() -> u32 {
    std::env::var("OTARU_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(50)
}

/// Returns how often each device started each version, as the devices themselves tell.
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
    let known = fleet.asks(&["devices", "--limit", "1000"]);
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
    let check = crate::server::fleet::database(&fleet.data());
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

/// Adds devices until `stop`; those whose addition was acknowledged go into `added`.
fn add_devices(port: u16, token: &str, writer: usize, added: &Mutex<Vec<String>>, stop: &AtomicBool) {
    let config = ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(5))).build();
    let agent = ureq::Agent::new_with_config(config);
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let id = format!("w{writer}-{number}");
        let request = agent.post(format!("http://127.0.0.1:{port}/api/v1/devices"));
        let request = request.header("authorization", format!("Bearer {token}"));
        let request = request.content_type("application/json");
        match request.send(format!(r#"{{"id":"{id}","label":"kept"}}"#)) {
            Ok(_) => added.lock().unwrap().push(id),
            // It may be added, or not: nobody promised anything.
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

#[test]
fn what_was_acknowledged_outlives_every_kill() {
    const KILLS: u32 = 25;
    let seed = rand::random::<u64>();
    println!("seed {seed}");
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut fleet = Fleet::start(&[]);
    let (port, token) = (fleet.http, fleet.token.clone());
    let (added, stop) = (Mutex::new(Vec::new()), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let (added, stop, token) = (&added, &stop, &token);
            scope.spawn(move || add_devices(port, token, writer, added, stop));
        }
        for kill in 1..=KILLS {
            // Not before something was acknowledged since the one before.
            let before = added.lock().unwrap().len();
            let more = || (added.lock().unwrap().len() > before).then_some(());
            eventually("a write to be acknowledged", Duration::from_secs(30), more);
            std::thread::sleep(Duration::from_millis(rng.random_range(0..200)));
            fleet.kill();
            if kill < KILLS {
                fleet.begin();
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    let added = added.into_inner().unwrap();
    let database = crate::server::fleet::database(&fleet.data());
    let mut find = database.prepare("SELECT 1 FROM devices WHERE id = ? AND label = 'kept'").unwrap();
    let lost: Vec<&String> = added.iter().filter(|id| !find.exists([id]).unwrap()).collect();
    println!("killed {KILLS} times; of {} acknowledged writes {} are lost", added.len(), lost.len());
    assert!(lost.is_empty(), "{lost:?}");
    assert!(added.len() > KILLS as usize);
    let sound: String = database.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(sound, "ok");
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
