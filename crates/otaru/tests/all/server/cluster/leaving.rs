//! A server less: what its devices report while nobody has them is not lost.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use otaru_format::digest::Digest;
use otaru_testing::{LIMIT, eventually, have, program, run};
use serde_json::json;

use super::{Cluster, SERVERS};

const DEVICES: usize = 60;

impl Cluster {
    /// Has a device say once, in a message that the broker does not keep, which version it runs.
    #[track_caller]
    fn report(&self, device: &str, version: &str) {
        let report = json!({
            "device": device, "chip": "esp32c3", "state": "idle", "project": "lamp", "version": version, "slot": 0,
            "confirmed": true, "image": Digest::of(version.as_bytes()).to_string(), "boot": "power_on", "uptime": 1,
        });
        let mut publish = program("mosquitto_pub");
        publish.args(["-h", "127.0.0.1", "-p", &self.mqtt.to_string(), "-q", "1"]);
        publish.args(["-t", &format!("ESP32/ota/{device}/status"), "-m", &report.to_string()]);
        run(publish).with_code(0);
    }

    /// Returns the shards that a server holds.
    #[track_caller]
    fn shards_of(&self, number: usize) -> BTreeSet<u8> {
        let port = self.servers[number].http;
        let held = self.rows(&format!(
            "SELECT what, number FROM leases WHERE what < 256 AND server IN (SELECT id FROM servers WHERE name LIKE '%:{port}')"
        ));
        held.keys().map(|shard| shard.parse().unwrap()).collect()
    }
}

#[test]
fn what_devices_say_while_their_server_is_gone_is_taken_in_by_another() {
    if !have(&["mosquitto_pub"]) {
        return;
    }
    let Some(mut cluster) = Cluster::start() else { return };
    let devices: Vec<String> = (0..DEVICES).map(|number| format!("lamp-{number:03}")).collect();
    devices.iter().for_each(|device| cluster.report(device, "1.0.0"));
    let on = |cluster: &Cluster, version: &str| {
        cluster.count(&format!("SELECT count(*) FROM devices WHERE version = '{version}'"))
    };
    eventually("all devices to be known", LIMIT, || (on(&cluster, "1.0.0") == DEVICES).then_some(()));
    // Each server in turn; the one before is back by then.
    for number in 0..SERVERS {
        cluster.balanced(SERVERS);
        let shards = cluster.shards_of(number);
        let own =
            devices.iter().filter(|device| shards.contains(&Digest::of(device.as_bytes()).0[0])).count();
        assert!(own > 0, "it has devices: {shards:?}");
        let version = format!("2.{number}.0");
        drop(cluster.take(number));
        let died = Instant::now();
        devices.iter().for_each(|device| cluster.report(device, &version));
        let told = died.elapsed();
        let taken_in = || (on(&cluster, &version) == DEVICES).then_some(());
        // They were not kept by the broker, and nobody says them again.
        let seconds = Duration::as_secs_f32;
        eventually("all reports to be taken in", LIMIT, taken_in);
        println!(
            "{own} of {DEVICES} devices were the dead server's and reported within {:.1} s: all is taken in {:.1} s after its end",
            seconds(&told),
            seconds(&died.elapsed()),
        );
        cluster.begin(number);
    }
}
