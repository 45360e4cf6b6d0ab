//! Signed releases over real web servers, with and without ranges, to devices that take nothing else.

use otaru_format::status::{Code, UpdateState};

use crate::broker::{Broker, Kind};
use crate::device::{Bench, DEVICE};
use crate::program::have;
use crate::updates::real_pairs;
use crate::web::{Counted, Web};

/// Real firmware where there is some.
fn bench() -> Bench {
    match real_pairs().first() {
        Some(pair) => {
            let read = |name| std::fs::read(pair.join(name)).unwrap();
            Bench::with(&read("old.bin"), read("new.bin"), 40.0)
        }
        None => Bench::new(1 << 20, 40.0),
    }
}

fn update_over(name: &str, serve: impl Fn(&Bench) -> Web) {
    let Some(broker) = Broker::start(Kind::Mosquitto) else { return };
    let mut bench = bench();
    let release = bench.sign();
    let web = serve(&bench);
    let way = Counted::way_to(&web);
    let device = bench.device(&broker);
    // Who may publish a command still cannot install what nobody signed.
    broker.offer(&way.url("new.bin"));
    broker.report(DEVICE, |status| {
        status.state == UpdateState::Refused
            && status.error.as_ref().is_some_and(|error| error.code == Code::Unsigned)
    });
    let before = way.received();
    broker.offer(&way.url("new.otaru"));
    bench.ends_on_the_new_image(&broker);
    let (bytes, image) = (way.received() - before, bench.new.len());
    println!(
        "{name}: {bytes} bytes on the wire for an image of {image} ({:.1} %), release file {release}",
        100.0 * bytes as f64 / image as f64
    );
    device.interrupt();
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
