//! Signed releases over real web servers, with and without ranges, to devices that take nothing else.

use std::collections::BTreeSet;

use otaru_format::status::{Code, Status, UpdateState};
use otaru_testing::{have, run};

use crate::common::otaru;
use crate::real_peers::broker::{Broker, Kind};
use crate::real_peers::device::{Bench, DEVICE};
use crate::real_peers::updates::real_pairs;
use crate::real_peers::web::{Counted, Web};

/// At most so many pairs of real firmware.
const PAIRS: usize = 3;

/// Real firmware where there is some, each of another project; and always some that is synthetic.
fn benches() -> Vec<(String, Bench)> {
    let mut all = vec![("synthetic".to_owned(), Bench::new(1 << 20, 40.0))];
    let mut projects = BTreeSet::new();
    for pair in real_pairs() {
        let name = pair.file_name().unwrap().to_string_lossy().into_owned();
        if projects.len() == PAIRS || !projects.insert(name.split('-').next().unwrap().to_owned()) {
            continue;
        }
        let read = |name| std::fs::read(pair.join(name)).unwrap();
        all.push((name, Bench::with(&read("old.bin"), read("new.bin"), 40.0)));
    }
    all
}

fn update_over(server: &str, serve: impl Fn(&Bench) -> Web) {
    for (name, bench) in benches() {
        update_from(server, &name, bench, &serve);
    }
}

fn update_from(server: &str, name: &str, mut bench: Bench, serve: impl Fn(&Bench) -> Web) {
    let Some(broker) = Broker::start(Kind::Mosquitto) else { return };
    let release = bench.sign();
    let web = serve(&bench);
    let way = Counted::way_to(&web);
    let device = bench.device(&broker);
    // Who may publish a command still cannot install what nobody signed.
    broker.offer(&way.url("new.bin"));
    is_refused(&broker, Code::Unsigned);
    let before = way.received();
    broker.offer(&way.url("new.otaru"));
    bench.ends_on_the_new_image(&broker);
    let (bytes, image) = (way.received() - before, bench.new.len());
    println!(
        "{server}, {name}: {bytes} bytes on the wire for an image of {image} ({:.1} %), release file {release}",
        100.0 * bytes as f64 / image as f64
    );
    // All that stands before the raw payload is fetched once, and nothing of it but what was under way.
    let needed = (release - image) as u64;
    assert!((needed..needed + image as u64 / 8).contains(&bytes), "{bytes} bytes, {needed} are needed");
    device.interrupt();
}

/// Waits until the device reports that it refused a command for this.
#[track_caller]
fn is_refused(broker: &Broker, code: Code) -> Status<String> {
    broker.report(DEVICE, |status| {
        status.state == UpdateState::Refused && status.error.as_ref().is_some_and(|error| error.code == code)
    })
}

#[test]
fn a_signed_release_comes_over_nginx() {
    if have(&["nginx"]) {
        update_over("nginx", Bench::nginx);
    }
}

#[test]
fn a_signed_release_comes_over_pythons_web_server() {
    update_over("python3 -m http.server", Bench::python);
}

#[test]
fn a_signed_release_comes_over_our_own_server() {
    update_over("otaru files", Bench::own);
}

#[test]
fn a_directory_listing_is_refused_for_what_it_is() {
    let Some(broker) = Broker::start(Kind::Mosquitto) else { return };
    for name in ["python3 -m http.server", "nginx"] {
        let nginx = name == "nginx";
        if nginx && !have(&["nginx"]) {
            continue;
        }
        let bench = Bench::new(64 << 10, 20.0);
        let web = if nginx { bench.nginx() } else { bench.python() };
        let device = bench.device(&broker);
        let before = bench.foreign_flash(DEVICE);
        broker.offer(&web.url(""));
        let detail = is_refused(&broker, Code::NotAnImage).error.unwrap().detail;
        assert!(detail.contains("directory listing"), "{name}: {detail}");
        device.interrupt();
        assert!(bench.foreign_flash(DEVICE) == before, "{name}: flash was written");
    }
}

#[test]
fn a_release_is_pushed() {
    let Some(broker) = Broker::start(Kind::Mosquitto) else { return };
    let mut bench = Bench::new(128 << 10, 20.0);
    bench.sign();
    let device = bench.device(&broker);
    let push = |file: &str| {
        let url = broker.url();
        run(otaru(&["push", "--timeout", "45", "--broker", &url, &bench.served(file)]))
    };
    let bare = push("new.bin").with_code(1);
    assert!(bare.out.contains(Code::Unsigned.as_str()), "{}", bare.out);
    let release = push("new.otaru").with_code(0);
    assert!(release.out.contains("1 of 1 device updated"), "{}", release.out);
    bench.ends_on_the_new_image(&broker);
    device.interrupt();
}

#[test]
fn nobody_but_the_key_goes_back() {
    for kind in [Kind::Mosquitto, Kind::Embedded] {
        let Some(broker) = Broker::start(kind) else { return };
        let mut bench = Bench::new(128 << 10, 20.0);
        bench.sign();
        bench.release_old(1);
        let (web, device) = (bench.python(), bench.device(&broker));
        let (new, old) = (web.url("new.otaru"), web.url("old.otaru"));
        broker.offer(&new);
        bench.ends_on_the_new_image(&broker);

        // Who may publish a command says when, and never what.
        broker.offer(&old);
        is_refused(&broker, Code::Downgrade);
        broker.send(DEVICE, format!(r#"{{"url":"{old}","force":true}}"#).as_bytes());
        let refused = is_refused(&broker, Code::Unsigned);
        assert!(refused.error.unwrap().detail.contains("otaru resign --sequence"));

        // Going back is going forward: the old image in a newer release.
        bench.sign_again("old.otaru", "again.otaru");
        broker.offer(&web.url("again.otaru"));
        broker.report(DEVICE, |status| status.confirmed && status.version == "1.0.0" && status.slot == 0);
        broker.offer(&new);
        is_refused(&broker, Code::Downgrade);
        device.interrupt();
    }
}
