//! Updates over TLS: the agent trusts whom it was told to, and nobody else.
#![expect(clippy::unwrap_used, reason = "a scenario that cannot be set up has failed")]

mod authority;

use std::time::Duration;

use otaru_format::status::{Code, Status, UpdateState};
use otaru_sim::firmware::Behaviour;
use otaru_sim::lab::http::{Act, file, head};
use otaru_sim::lab::release::{Key, Recipe};
use otaru_sim::lab::{HostConfig, Lab, Setup, firmware, run};
use otaru_sim::tls::HostTls;

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
    let command = command.to_owned();
    run(async move {
        let mut lab = Lab::new(setup, &image("1.0.0")).unwrap();
        lab.http.handle(move |request| match request.path.as_str() {
            "/away" => vec![head(302, &[("Location", away), ("Content-Length", "0")]), Act::Close],
            _ => file(request, &file_bytes, "\"one\""),
        });
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
}

#[test]
fn a_release_comes_over_https() {
    let ca = Authority::new("ours");
    let setup = setup(ca.trusted(), ca.host(&["files"]));
    let (end, _) = update(setup, "https://files/new.otaru", release(), "");
    assert_eq!(state(&end), GOOD, "{end:?}");
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
    let digest = otaru_format::digest::Digest::of(&image("1.1.0"));
    let offer = format!(r#"{{"url":"{away}","image":"{digest}"}}"#);
    let offered = update(setup, &offer, image("1.1.0"), plain);
    for (end, _) in [signed, offered] {
        assert_eq!(state(&end), GOOD, "{end:?}");
    }
}
