//! A server with a broker of yours: a rollout from the upload to its end, and what a server knows that starts again.

use std::collections::BTreeMap;

use otaru_testing::{Program, eventually};
use serde_json::Value;

use crate::real_peers::broker::{Broker, Kind};
use crate::server::fleet::{Fleet, LONG, phase, standing};

const DEVICES: usize = 6;

/// A broker, a server that is its client, and devices that are, too.
struct Setting {
    broker: Broker,
    fleet: Fleet,
    devices: Program,
}

impl Setting {
    /// Starts all of them, with a release 1.1.0 that no device runs; none when a program is missing.
    fn new(kind: Kind) -> Option<Self> {
        let broker = Broker::start(kind)?;
        let version = kind.version().to_string();
        let fleet =
            Fleet::over(broker.port(), &["--dev", "--mqtt", &broker.url(), "--mqtt-version", &version]);
        let (old, new) = (fleet.firmware("1.0.0", "healthy"), fleet.firmware_of("600K", "1.1.0", "healthy"));
        fleet.does(&["release", "upload", &new]);
        // Slow enough for a server that goes in the middle.
        let devices = fleet.devices_at("6", &old, DEVICES, &["--mqtt-version", &version]);
        Some(Self { broker, fleet, devices })
    }

    /// Returns how often each device started each version.
    fn boots(&self) -> BTreeMap<(String, String), usize> {
        let mut boots = BTreeMap::new();
        for line in self.devices.lines() {
            let Ok(event) = serde_json::from_str::<Value>(&line) else { continue };
            if event["event"] == "boot" {
                let text = |name: &str| event[name].as_str().unwrap().to_owned();
                *boots.entry((text("device"), text("version"))).or_default() += 1;
            }
        }
        boots
    }

    /// Fails if a device started a version more than once.
    #[track_caller]
    fn each_booted_once(&self) {
        for ((device, version), count) in self.boots() {
            assert_eq!(count, 1, "{device} started {version} {count} times");
        }
    }

    /// Waits until the server knows all devices as reachable.
    #[track_caller]
    fn all_are_reachable(&self) {
        eventually("all devices to be reachable", LONG, || {
            let reachable = self.fleet.asks(&["devices"]);
            let reachable = reachable.iter().filter(|device| device["reachable"] == true).count();
            (reachable == DEVICES).then_some(())
        });
    }
}

/// A rollout in waves, whose server is killed in the middle of it.
fn a_rollout(kind: Kind) {
    let Some(mut setting) = Setting::new(kind) else { return };
    let fleet = &mut setting.fleet;
    fleet.does(&["rollout", "create", "lamp@1.1.0", "--wave", "2", "--concurrency", "2"]);
    fleet.rollout(1, "the first wave to be updated", |rollout| standing(rollout, "succeeded") >= 1);
    fleet.kill();
    assert_eq!(
        fleet.count("SELECT count(*) FROM rollouts WHERE phase = 'running'"),
        1,
        "it was over too soon"
    );
    fleet.begin();
    let rollout = fleet.rollout(1, "the rollout to complete", |rollout| phase(rollout) == "completed");
    assert_eq!(standing(&rollout, "succeeded"), DEVICES as u64, "{rollout}");
    let known = fleet.asks(&["devices"]);
    assert_eq!(known.len(), DEVICES, "{known:?}");
    for device in &known {
        assert_eq!(
            (&device["version"], &device["state"]),
            (&"1.1.0".into(), &"confirmed".into()),
            "{device}"
        );
    }
    setting.each_booted_once();
    drop(setting.broker);
}

/// Devices stay connected while the server is away, and say nothing by themselves.
fn a_restart(kind: Kind) {
    let Some(mut setting) = Setting::new(kind) else { return };
    setting.fleet.kill();
    // It takes nobody to be there, and asks those of whom the broker has kept nothing.
    setting.fleet.begin();
    setting.all_are_reachable();
    if kind == Kind::RabbitMq {
        // It keeps no message for a server, which subscribes with wildcards. The line comes once all are asked.
        setting.fleet.says("asked to report");
    }
    setting.each_booted_once();
    assert_eq!(setting.boots().len(), DEVICES);
    drop(setting.broker);
}

/// Tests of a story over each broker that is not the server's own.
macro_rules! over_each_broker {
    ($($story:ident),*) => { $(
        mod $story {
            use super::Kind;

            #[test]
            fn over_mosquitto() {
                super::$story(Kind::Mosquitto);
            }

            #[test]
            fn over_mosquitto_311() {
                super::$story(Kind::Mosquitto311);
            }

            #[test]
            fn over_nats() {
                super::$story(Kind::Nats);
            }

            #[test]
            fn over_rabbitmq() {
                super::$story(Kind::RabbitMq);
            }
        }
    )* };
}

over_each_broker!(a_rollout, a_restart);
