//! Updates as the first boards' users do them: Mosquitto, a web server, one line with `mosquitto_pub`.

use std::path::PathBuf;

use otaru_testing::firmware::real_folder;
use otaru_testing::have;

use crate::real_peers::broker::{Broker, Kind};
use crate::real_peers::device::{Bench, SLOT};

/// Pairs of real firmware that fit their slots, below `OTARU_FIRMWARE_PAIRS`.
pub(crate) fn real_pairs() -> Vec<PathBuf> {
    let Some(folder) = real_folder() else { return Vec::new() };
    let fits = |pair: &PathBuf| {
        ["old.bin", "new.bin"].iter().all(|name| {
            pair.join(name).metadata().is_ok_and(|file| usize::try_from(file.len()).unwrap() <= SLOT)
        })
    };
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut pairs: Vec<_> = entries.map(|entry| entry.path()).filter(fits).collect();
    pairs.sort();
    pairs
}

fn update_over_python(bench: &Bench, broker: &Broker) {
    let web = bench.python();
    let device = bench.device(broker);
    broker.offer(&web.url("new.bin"));
    bench.ends_on_the_new_image(broker);
    device.interrupt();
}

#[test]
fn mosquitto_and_pythons_web_server_update_a_device() {
    let Some(broker) = Broker::start(Kind::Mosquitto) else { return };
    update_over_python(&Bench::new(1 << 20, 20.0), &broker);
}

#[test]
fn real_firmware_replaces_its_predecessor() {
    let pairs = real_pairs();
    if pairs.is_empty() {
        eprintln!(
            "no real firmware: set OTARU_FIRMWARE_PAIRS to a folder of folders with old.bin and new.bin"
        );
    }
    for pair in pairs {
        let Some(broker) = Broker::start(Kind::Mosquitto) else { return };
        eprintln!("{}", pair.display());
        let read = |name| std::fs::read(pair.join(name)).unwrap();
        update_over_python(&Bench::with(&read("old.bin"), read("new.bin"), 40.0), &broker);
    }
}

#[test]
fn nginx_serves_as_well() {
    if !have(&["nginx"]) {
        return;
    }
    let Some(broker) = Broker::start(Kind::Mosquitto) else { return };
    let bench = Bench::new(1 << 20, 20.0);
    let web = bench.nginx();
    let _device = bench.device(&broker);
    broker.offer(&web.url("new.bin"));
    bench.ends_on_the_new_image(&broker);
}
