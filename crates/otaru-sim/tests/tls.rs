//! Updates over TLS: the agent trusts whom it was told to, and nobody else.
#![expect(clippy::unwrap_used, reason = "a scenario that cannot be set up has failed")]

mod authority;

use std::rc::Rc;
use std::time::Duration;

use otaru_format::digest::Digest;
use otaru_format::status::{CaIds, Code, Dates, Status, TlsReport, UpdateState};
use otaru_sim::firmware::Behaviour;
use otaru_sim::lab::http::{Act, Request, file, head};
use otaru_sim::lab::release::{Key, Recipe};
use otaru_sim::lab::{HostConfig, Lab, Setup, firmware, run};
use otaru_sim::tls::HostTls;
use otaru_tls::Trust;

use authority::Authority;

const SIZE: usize = 100_000;
const LONG: Duration = Duration::from_secs(24 * 3600);

/// A device that trusts so, and a host with that certificate.
fn setup(tls: HostTls, host_tls: HostConfig) -> Setup {
    let mut setup = Setup { tls, host_tls: Some(host_tls), ..Setup::default() };
    setup.config.keys = Box::leak(Box::new([Key(1).public()]));
    setup
}

fn image(version: &str) -> Vec<u8> {
    firmware(version, SIZE, Behaviour::Healthy)
}

fn release() -> Vec<u8> {
    Recipe { compressed: false, ..Recipe::new("1.1.0", 110) }.make(&image("1.1.0")).unwrap()
}

/// The last word of a device after this command. `file` is what every path but `/away` has, which redirects.
fn update(setup: Setup, command: &str, file_bytes: Vec<u8>, away: &'static str) -> (Status<String>, Lab) {
    served(setup, command, move |request| match request.path.as_str() {
        "/away" => vec![head(302, &[("Location", away), ("Content-Length", "0")]), Act::Close],
        _ => file(request, &file_bytes, "\"one\""),
    })
}

/// The last word of a device after this command, where the web server answers so.
fn served(
    setup: Setup,
    command: &str,
    handler: impl Fn(&Request) -> Vec<Act> + 'static,
) -> (Status<String>, Lab) {
    let command = command.to_owned();
    run(async move {
        let mut lab = Lab::new(setup, &image("1.0.0")).unwrap();
        lab.http.handle(handler);
        lab.power_on();
        lab.ready().await;
        lab.broker.publish("ESP32/ota/update", &command, false);
        let end = lab.wait_for(LONG, |status| status.state.is_final()).await.expect("it must come to an end");
        (end, lab)
    })
}

fn state(end: &Status<String>) -> (UpdateState, Option<Code>) {
    (end.state, end.error.as_ref().map(|error| error.code))
}

const GOOD: (UpdateState, Option<Code>) = (UpdateState::Confirmed, None);

#[test]
fn firmware_comes_over_https_and_mqtt_over_tls() {
    let ca = Authority::new("ours");
    let mut setup = setup(ca.trusted(), ca.host(&["files", "broker"]));
    setup.config.broker_tls = true;
    setup.config.broker_port = 8883;
    let (end, lab) = update(setup, "https://files/new.bin", image("1.1.0"), "");
    assert_eq!(state(&end), GOOD, "{end:?}");
    assert!(lab.runs("1.1.0") && !end.left_tls);
    // The chain of the broker was verified by one of these.
    let trusts = CaIds::of([ca.0.der().as_ref()]).as_str().to_owned();
    assert_eq!(end.tls, Some(TlsReport { trusts, dates: Dates::Checked }));
}

/// A chip that wakes without the time, and hears it during its first handshake.
#[test]
fn a_report_says_how_dates_were_checked_in_its_own_handshake() {
    let ca = Authority::new("ours");
    let mut setup = setup(ca.trusted().without_the_time(), ca.host(&["broker"]));
    (setup.config.broker_tls, setup.config.broker_port) = (true, 8883);
    run(async move {
        let mut lab = Lab::new(setup, &image("1.0.0")).unwrap();
        lab.power_on();
        let first = lab.wait_for(LONG, |_| true).await.unwrap();
        assert_eq!(first.tls.unwrap().dates, Dates::ClockUnknown, "its certificate was looked at without");
        lab.broker.away(true);
        tokio::time::sleep(Duration::from_secs(60)).await;
        lab.broker.away(false);
        let checked =
            |status: &Status<String>| status.tls.as_ref().is_some_and(|tls| tls.dates == Dates::Checked);
        assert!(lab.wait_for(LONG, checked).await.is_some(), "the next one was not");
    });
}

#[test]
fn a_release_comes_over_https() {
    let ca = Authority::new("ours");
    let setup = setup(ca.trusted(), ca.host(&["files"]));
    let (end, _) = update(setup, "https://files/new.otaru", release(), "");
    assert_eq!(state(&end), GOOD, "{end:?}");
    assert_eq!(end.tls, None, "the broker is spoken to in clear");
}

#[test]
fn a_host_that_is_not_trusted_brings_nothing() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    for (host, code) in
        [(theirs.host(&["files"]), Code::TlsUntrusted), (ours.host(&["other"]), Code::TlsWrongHost)]
    {
        let (end, lab) = update(setup(ours.trusted(), host), "https://files/new.bin", image("1.1.0"), "");
        assert_eq!(state(&end), (UpdateState::Failed, Some(code)), "{end:?}");
        assert!(lab.runs("1.0.0") && lab.http.requests().is_empty(), "not a byte of the request is sent");
    }
}

#[test]
fn without_tls_https_is_refused_and_no_broker_is_spoken_to_in_clear_instead() {
    let ca = Authority::new("ours");
    let none = setup(HostTls::default(), ca.host(&["files"]));
    let (end, _) = update(none.clone(), "https://files/new.bin", image("1.1.0"), "");
    assert_eq!(state(&end), (UpdateState::Refused, Some(Code::UnsupportedUrl)), "{end:?}");
    let mut setup = none;
    setup.config.broker_tls = true;
    run(async move {
        let mut lab = Lab::new(setup, &image("1.0.0")).unwrap();
        lab.power_on();
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(lab.broker.messages().is_empty());
    });
}

#[test]
fn a_redirect_into_tls_is_followed() {
    let ca = Authority::new("ours");
    let setup = setup(ca.trusted(), ca.host(&["files"]));
    let (end, _) = update(setup, "http://files/away", image("1.1.0"), "https://files/new.bin");
    assert_eq!(state(&end), GOOD, "{end:?}");
    assert!(!end.left_tls);
}

#[test]
fn a_redirect_out_of_tls_is_followed_only_where_something_else_vouches_for_the_firmware() {
    let ca = Authority::new("ours");
    let setup = setup(ca.trusted(), ca.host(&["files"]));
    let (plain, away) = ("http://files/new.bin", "https://files/away");
    let bare = update(setup.clone(), away, image("1.1.0"), plain);
    assert_eq!(state(&bare.0), (UpdateState::Failed, Some(Code::InsecureRedirect)), "{:?}", bare.0);
    assert!(bare.1.runs("1.0.0"));
    let unsigned = Recipe { key: None, compressed: false, ..Recipe::new("1.1.0", 110) };
    let unsigned = update(setup.clone(), away, unsigned.make(&image("1.1.0")).unwrap(), plain);
    assert_eq!(state(&unsigned.0), (UpdateState::Failed, Some(Code::InsecureRedirect)), "{:?}", unsigned.0);
    let signed = update(setup.clone(), away, release(), plain);
    let digest = Digest::of(&image("1.1.0"));
    let offer = format!(r#"{{"url":"{away}","image":"{digest}"}}"#);
    let offered = update(setup, &offer, image("1.1.0"), plain);
    for (end, _) in [signed, offered] {
        assert_eq!(state(&end), GOOD, "{end:?}");
    }
}

/// A release whose patches for other images stand in front of the one for the image that runs.
fn delta() -> Vec<u8> {
    let patch = otaru_delta::encode(&image("1.0.0"), &image("1.1.0")).unwrap();
    let other: Vec<u8> = (0..30_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let patches = vec![(Digest::of(b"other"), other), (Digest::of(&image("1.0.0")), patch)];
    Recipe { patches, ..Recipe::new("1.1.0", 110) }.make(&image("1.1.0")).unwrap()
}

/// A release whose only payload is compressed.
fn compressed() -> Vec<u8> {
    Recipe::new("1.1.0", 110).make(&image("1.1.0")).unwrap()
}

/// Answer of a web server to a request for a file.
type Answer = fn(&Request, &[u8]) -> Vec<Act>;
/// Answer that does not depend on the request.
type WholeAnswer = fn(&[u8]) -> Vec<Act>;

/// Requests that were made, as path and range.
fn ranges(lab: &Lab) -> Vec<String> {
    let range = |request: &Request| format!("{} {}", request.path, request.header("range").unwrap_or("all"));
    lab.http.requests().iter().map(range).collect()
}

#[test]
fn an_update_costs_one_handshake() {
    let ca = Authority::new("ours");
    for (name, file, requests) in [
        ("delta", delta(), 2),
        ("compressed", compressed(), 2),
        ("raw", release(), 2),
        ("bare", image("1.1.0"), 2),
    ] {
        let setup = setup(ca.trusted(), ca.host(&["files"]));
        let (end, lab) = update(setup, "https://files/new", file, "");
        assert_eq!(state(&end), GOOD, "{name}: {end:?}");
        assert_eq!((lab.http.handshakes(), ranges(&lab).len()), (1, requests), "{name}: {:?}", ranges(&lab));
        assert!(!lab.reports().iter().any(|status| status.state == UpdateState::Retrying), "{name}");
    }
}

#[test]
fn a_redirect_costs_one_more_and_is_not_followed_again() {
    let ca = Authority::new("ours");
    for away in ["https://mirror/new", "/new"] {
        let setup = setup(ca.trusted(), ca.host(&["files", "mirror"]));
        let (end, lab) = update(setup, "https://files/away", delta(), away);
        assert_eq!(state(&end), GOOD, "{end:?}");
        assert_eq!(lab.http.handshakes(), 2, "{:?}", ranges(&lab));
        assert_eq!(ranges(&lab).iter().filter(|range| range.starts_with("/away")).count(), 1);
    }
}

/// Answers of a server that ends connections, or what a link leads to, between one request and the next.
#[test]
fn a_kept_connection_that_has_ended_is_no_attempt() {
    let ca = Authority::new("ours");
    let closes =
        |request: &Request, bytes: &[u8]| [file(request, bytes, "\"one\""), vec![Act::Close]].concat();
    let says_so = |request: &Request, bytes: &[u8]| {
        let mut acts = file(request, bytes, "\"one\"");
        if let Some(Act::Send(head)) = acts.first_mut() {
            let end = head.len() - 2;
            head.splice(end..end, b"Connection: close\r\n".iter().copied());
        }
        acts
    };
    let stalls = |request: &Request, bytes: &[u8]| match request.number {
        0 => [file(request, bytes, "\"one\""), vec![Act::Stall]].concat(),
        _ => file(request, bytes, "\"one\""),
    };
    let expires = |request: &Request, bytes: &[u8]| match request.number {
        1 => vec![head(403, &[("Content-Length", "0")])],
        _ => file(request, bytes, "\"one\""),
    };
    // "I have waited long enough", as to a request that never came, and "not on this connection".
    let has_waited = |request: &Request, bytes: &[u8]| match request.number {
        1 => vec![head(408, &[("Content-Length", "0"), ("Connection", "close")]), Act::Close],
        _ => file(request, bytes, "\"one\""),
    };
    let misdirected = |request: &Request, bytes: &[u8]| match request.number {
        1 => vec![head(421, &[("Content-Length", "0")])],
        _ => file(request, bytes, "\"one\""),
    };
    let answers: [(&str, Answer); 6] = [
        ("closes", closes),
        ("says so", says_so),
        ("stalls", stalls),
        ("expires", expires),
        ("has waited", has_waited),
        ("misdirected", misdirected),
    ];
    for (name, answer) in answers {
        let (setup, bytes) = (setup(ca.trusted(), ca.host(&["files"])), delta());
        let (end, lab) = served(setup, "https://files/new", move |request| answer(request, &bytes));
        assert_eq!(state(&end), GOOD, "{name}: {end:?}");
        assert_eq!(lab.http.handshakes(), 2, "{name}: {:?}", ranges(&lab));
        assert!(!lab.reports().iter().any(|status| status.state == UpdateState::Retrying), "{name}");
    }
}

#[test]
fn a_server_without_ranges_or_lengths_brings_a_release_over_tls_too() {
    let ca = Authority::new("ours");
    let whole = |bytes: &[u8]| vec![head(200, &[]), Act::Send(bytes.to_vec()), Act::Close];
    let length = |bytes: &[u8]| {
        vec![head(200, &[("Content-Length", &bytes.len().to_string())]), Act::Send(bytes.to_vec())]
    };
    for answer in [whole, length] as [WholeAnswer; 2] {
        for bytes in [delta(), compressed(), image("1.1.0")] {
            let setup = setup(ca.trusted(), ca.host(&["files"]));
            let (end, lab) = served(setup, "https://files/new", move |_| answer(&bytes));
            assert_eq!(state(&end), GOOD, "{end:?}");
            assert_eq!((lab.http.handshakes(), ranges(&lab).len()), (1, 1), "{:?}", ranges(&lab));
        }
    }
}

/// Servers that never let it end: shorter parts than asked for, refusals on every kept connection.
#[test]
fn a_server_that_answers_with_little_is_given_up_after_a_bounded_number_of_requests() {
    let ca = Authority::new("ours");
    let bytes = delta();
    let one_byte = move |request: &Request| {
        let (from, len) = (request.from().unwrap_or(0), bytes.len());
        let range = format!("bytes {from}-{from}/{len}");
        vec![head(206, &[("Content-Length", "1"), ("Content-Range", &range)]), Act::Send(vec![bytes[from]])]
    };
    let (end, lab) = served(setup(ca.trusted(), ca.host(&["files"])), "https://files/new", one_byte);
    assert_eq!(state(&end), (UpdateState::Failed, Some(Code::Truncated)), "{end:?}");
    assert_eq!(lab.http.requests().len(), 6);
    let refuses = |request: &Request| match request.number % 2 {
        0 => file(request, &delta(), "\"one\""),
        _ => vec![head(503, &[("Content-Length", "0")])],
    };
    let (end, lab) = served(setup(ca.trusted(), ca.host(&["files"])), "https://files/new", refuses);
    assert_eq!(state(&end), GOOD, "{end:?}");
    assert_eq!(lab.http.handshakes(), 2);
}

/// A server that moves from one CA to another: a release that trusts both comes first, and whoever has it is not lost.
#[test]
fn a_device_that_trusts_both_cas_outlives_the_move_from_one_to_the_other() {
    let (first, second) = (Authority::new("first"), Authority::new("second"));
    let names = ["files", "broker"];
    let over_tls = |tls: HostTls, host_tls: HostConfig| {
        let mut setup = setup(tls, host_tls);
        (setup.config.broker_tls, setup.config.broker_port) = (true, 8883);
        setup
    };
    let (end, lab) =
        update(over_tls(first.trusted(), first.host(&names)), "https://files/new.otaru", delta(), "");
    assert_eq!(state(&end), GOOD, "{end:?}");
    let flash: Rc<[u8]> = lab.flash.contents().unwrap().into();
    let both = HostTls::new(Trust::of_pem((first.0.pem() + &second.0.pem()).as_bytes()).unwrap());
    let trusts = CaIds::of([&first, &second].map(|ca| ca.0.der().as_ref())).as_str().to_owned();
    for (tls, heard) in [(both, Some(trusts)), (first.trusted(), None)] {
        let (setup, flash) = (over_tls(tls, second.host(&names)), flash.clone());
        let report = run(async move {
            let mut lab = Lab::flashed(setup, flash);
            lab.power_on();
            lab.wait_for(Duration::from_secs(600), |_| true).await
        });
        let told = report.map(|report| (report.version, report.tls.unwrap().trusts));
        assert_eq!(told, heard.map(|trusts| ("1.1.0".to_owned(), trusts)));
    }
}
