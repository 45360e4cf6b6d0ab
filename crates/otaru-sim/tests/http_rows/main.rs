//! Each row of the tables in `docs/http.md`, tried on a virtual device; answers over TLS, too, where a row is not about that.
#![expect(clippy::unwrap_used, reason = "a scenario that cannot be set up has failed")]

mod answers;
#[path = "../authority/mod.rs"]
mod authority;
mod fields;
mod framing;
mod redirects;
mod rows;
mod status_codes;
mod urls;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use otaru_device::AllowedHost;
use otaru_format::status::{Code, Status, UpdateState};
use otaru_sim::firmware::Behaviour;
use otaru_sim::lab::http::{Act, Request, file};
use otaru_sim::lab::{Lab, Setup, firmware, run};

use answers::{chunks, cut, part, raw, whole};
use authority::Authority;
use rows::{Rows, rows};

const LONG: Duration = Duration::from_secs(24 * 3600);

const SIZE: usize = 40_000;

const ETAG: &str = "\"one\"";

const URL: &str = "http://files/new.bin";

const HOSTS: &[AllowedHost<'static>] =
    &[AllowedHost::new("files"), AllowedHost::new("*.example.org:80"), AllowedHost::new("10.0.0.1:80")];

/// End of an update.
struct End {
    status: Status<String>,
    requests: Vec<Request>,
    took: Duration,
}

/// Has a device follow a command while a server answers so.
fn update(
    command: &str,
    hosts: &'static [AllowedHost<'static>],
    handler: impl Fn(&Request, &[u8]) -> Vec<Act> + 'static,
) -> End {
    let mut setup = Setup::default();
    setup.config.hosts = hosts;
    follow(setup, command, handler)
}

/// Has a device fetch the file over TLS from a server that answers so.
fn update_over_tls(handler: impl Fn(&Request, &[u8]) -> Vec<Act> + 'static) -> End {
    let ca = Authority::new("ours");
    let setup = Setup { tls: ca.trusted(), host_tls: Some(ca.host(&["files"])), ..Setup::default() };
    follow(setup, "https://files/new.bin", handler)
}

fn follow(setup: Setup, command: &str, handler: impl Fn(&Request, &[u8]) -> Vec<Act> + 'static) -> End {
    run(async move {
        let mut lab = Lab::new(setup, &firmware("1.0.0", SIZE, Behaviour::Healthy)).unwrap();
        lab.power_on();
        lab.ready().await;
        let new = firmware("1.1.0", SIZE, Behaviour::Healthy);
        lab.http.handle(move |request| handler(request, &new));
        let before = otaru_device::Clock::now(&lab.clock);
        lab.broker.publish("ESP32/ota/update", command, false);
        let end = lab.wait_for(LONG, |status| status.state.is_final()).await;
        let status = end.expect("the update must come to an end");
        let took = otaru_device::Clock::now(&lab.clock) - before;
        for word in lab.reports().into_iter().filter_map(|report| report.error).map(|fault| fault.detail) {
            assert!(!word.contains("secret"), "bytes of the server in a report: {word}");
        }
        assert!(!lab.lines().iter().any(|line| line.contains("secret")), "{:?}", lab.lines());
        End { status, requests: lab.http.requests(), took }
    })
}
