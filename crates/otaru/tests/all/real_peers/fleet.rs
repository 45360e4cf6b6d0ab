//! Two hundred devices in one process, one command, one web server.

use std::collections::BTreeMap;
use std::time::Duration;

use otaru_format::status::{Status, UpdateState};
use otaru_testing::{Program, eventually, have};

use crate::real_peers::broker::{Broker, Kind};
use crate::real_peers::device::Bench;

const DEVICES: usize = 200;

/// All reports so far, each device's in order.
fn reports(subscriber: &Program) -> BTreeMap<String, Vec<Status<String>>> {
    let mut all = BTreeMap::<_, Vec<_>>::new();
    for line in subscriber.lines() {
        let status: Status<String> = serde_json::from_str(&line).unwrap();
        all.entry(status.device.clone()).or_default().push(status);
    }
    all
}

fn count(reports: &[Status<String>], state: UpdateState) -> usize {
    reports.iter().filter(|status| status.state == state).count()
}

/// Waits until as many devices have reported like this.
#[track_caller]
fn all_report(subscriber: &Program, what: &str, like: impl Fn(&Status<String>) -> bool) {
    eventually(what, Duration::from_secs(90), || {
        let reports = reports(subscriber);
        (reports.values().filter(|reports| reports.iter().any(&like)).count() == DEVICES).then_some(())
    });
}

#[test]
fn two_hundred_devices_update_and_report_it_once() {
    if !have(&["nginx"]) {
        return;
    }
    let Some(broker) = Broker::start(Kind::Mosquitto) else { return };
    let bench = Bench::new(64 << 10, 10.0);
    let web = bench.nginx();
    let subscriber = broker.client("mosquitto_sub", &["-q", "1", "-t", "ESP32/ota/+/status"]);
    let subscriber = Program::start(subscriber);
    let devices = bench.devices(&broker, DEVICES);
    all_report(&subscriber, "all devices to be there", |status| status.state == UpdateState::Idle);
    broker.offer(&web.url("new.bin"));
    all_report(&subscriber, "all devices to be updated", |status| bench.is_done(status));
    devices.interrupt();
    for (device, reports) in reports(&subscriber) {
        let states: Vec<_> = reports.iter().map(|status| status.state).collect();
        assert_eq!(count(&reports, UpdateState::Confirmed), 1, "{device}: {states:?}");
        for bad in [UpdateState::Failed, UpdateState::RolledBack, UpdateState::Refused] {
            assert_eq!(count(&reports, bad), 0, "{device}: {states:?}");
        }
        assert!(bench.is_done(reports.last().unwrap()), "{device}: {states:?}");
        bench.flash_has_the_new_image(&device);
    }
}
