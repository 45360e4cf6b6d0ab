//! The work of an operator in a browser: log in, drop a release, roll it out with a canary, see a bad one stop, finish it, and go
//! back; by mouse and keyboard, with no complaint from the browser.

use otaru_testing::{Running, have};

use crate::browser::chromium::Browser;
use crate::browser::desk::Desk;
use crate::common::otaru;

/// That the browser complains about a page it was refused is what is tested there.
fn only_the_refusal(complaints: &[String]) -> bool {
    complaints.iter().all(|complaint| complaint.contains("401"))
}

#[test]
fn a_release_by_mouse_and_a_bad_one_stops_and_back() {
    let Some(mut desk) = Desk::start(&["--dev"]) else { return };
    let (old, new) = (desk.fleet.firmware("1.0.0", "healthy"), desk.fleet.firmware("1.1.0", "healthy"));
    let bad = desk.fleet.firmware("1.2.0", "crash");
    desk.fleet.does(&["release", "upload", &old]);
    let _devices = desk.devices(8, "10", &[]);
    let no_token = format!("otaru_01234567_{}", "0".repeat(64));

    // Whoever is not logged in is asked, and comes to where they wanted to go.
    desk.open("/releases");
    assert_eq!(desk.browser.eval("location.pathname"), "/login");
    desk.browser.fill("#token", &no_token);
    desk.browser.follow("Log in");
    desk.browser.sees("This token is not known here");
    assert!(only_the_refusal(&desk.browser.complaints()));
    let token = desk.fleet.token.clone();
    desk.browser.fill("#token", &token);
    desk.browser.follow("Log in");
    assert_eq!(desk.browser.eval("location.pathname"), "/releases");

    // A file is dropped, and tells what it is.
    let browser = &mut desk.browser;
    browser.leaving(|browser| browser.drop_file(&new));
    browser.sees("Read: lamp 1.1.0 for esp32c3.");

    // A canary first, then the rest, without another click.
    browser.follow("Roll out…");
    browser.sees("8 devices to update");
    browser.fill("[name=wave]", "2");
    browser.wait("document.querySelector('#preview .steps b').innerText === '2'");
    browser.follow("Start");
    browser.sees("Rollout created.");
    browser.sees("8 of 8 devices done");
    browser.wait("document.querySelector('#head .badge').innerText === 'completed'");
    assert_eq!(browser.complaints(), Vec::<String>::new());

    // A bad one stops at the canaries, and says why.
    desk.open("/releases");
    let browser = &mut desk.browser;
    browser.choose_file("#file", &bad);
    browser.sees("Read: lamp 1.2.0 for esp32c3.");
    browser.follow("Roll out…");
    browser.fill("[name=wave]", "2");
    browser.follow("Start");
    browser.sees("Stopped automatically: 2 failures among 2 results");
    browser.sees("panicked at");
    browser.follow("Finish");
    browser.wait("document.querySelector('#head .badge').innerText === 'completed'");
    let versions = desk.fleet.asks(&["devices"]);
    assert!(versions.iter().all(|device| device["version"] == "1.1.0"), "{versions:?}");

    // Back to what they ran before the first.
    desk.open("/rollouts/1");
    let browser = &mut desk.browser;
    browser.click("Roll back…");
    browser.sees("returns each updated device to the firmware");
    browser.leaving(|browser| browser.click_on("document.querySelector('#undo button.danger')"));
    browser.sees("Returns each device to the firmware it ran before");
    browser.sees("8 devices to update");
    browser.fill("[name=wave]", "");
    browser.follow("Start");
    browser.wait("document.querySelector('#head .badge').innerText === 'completed'");
    browser.sees("8 of 8 devices done");
    assert_eq!(browser.complaints(), Vec::<String>::new());
    let versions = desk.fleet.asks(&["devices"]);
    assert!(versions.iter().all(|device| device["version"] == "1.0.0"), "{versions:?}");
}

#[test]
fn the_demo_is_entered_without_a_token() {
    if !have(&["chromium"]) {
        return;
    }
    let demo = Running::start(otaru(&["demo", "--json", "--speed", "8"]));
    let waiting: serde_json::Value = serde_json::from_str(&demo.line(r#""event":"waiting""#)).unwrap();
    let mut browser = Browser::start();
    browser.open(waiting["dashboard"].as_str().unwrap());
    browser.follow("Enter");
    browser.sees("8\ndevices");
    browser.follow("Releases");
    browser.follow("lamp 1.5.0");
    browser.follow("Roll out…");
    browser.sees("8 devices to update");
    browser.follow("Start");
    browser.sees("8 of 8 devices done");
    // The other one panics: the first board comes back, and no other is given it.
    browser.follow("Releases");
    browser.follow("lamp 1.6.0");
    browser.follow("Roll out…");
    browser.follow("Start");
    browser.sees("Held: after 1 failure");
    browser.sees("panicked at");
    browser.sees("not started\n7");
    assert_eq!(browser.complaints(), Vec::<String>::new());
    assert_eq!(demo.stop(), Some(0));
}

#[test]
fn a_device_is_retired_after_a_question_and_taken_back() {
    let Some(mut desk) = Desk::start(&["--dev"]) else { return };
    let _devices = desk.devices(3, "10", &[]);
    desk.log_in();
    desk.open("/devices/sim-0002");
    let browser = &mut desk.browser;
    browser.click("Retire…");
    browser.sees("Retire Porch?");
    browser.click("Cancel");
    browser.wait("!document.querySelector('#retire').matches(':popover-open')");
    browser.click("Retire…");
    browser.leaving(|browser| browser.click_on("document.querySelector('#retire button[type=submit]')"));
    browser.sees("sim-0002 was retired.");
    // It is gone from the list, and its own page has the way back.
    desk.open("/devices");
    desk.browser.wait("document.querySelectorAll('tbody tr').length === 2");
    assert!(!desk.browser.text().contains("Porch"));
    desk.open("/devices/sim-0002");
    desk.browser.follow("Unretire");
    desk.browser.sees("sim-0002 was unretired.");
    desk.open("/devices");
    let browser = &mut desk.browser;
    browser.sees("Porch");
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

#[test]
fn many_devices_are_found_and_changed_at_once() {
    let Some(mut desk) = Desk::start(&["--dev"]) else { return };
    let _devices = desk.devices(60, "10", &[]);
    desk.log_in();
    desk.open("/devices");
    let browser = &mut desk.browser;
    browser.sees("60 devices");
    browser.fill("[name=q]", "sim-005");
    browser.sees("10 devices");
    browser.wait("document.querySelectorAll('tbody tr').length === 10");
    browser.click_on("document.querySelector('[data-all]')");
    browser.wait("document.querySelectorAll('tbody input:checked').length === 10");
    browser.fill("[name=tags][placeholder*=canary]", "canary");
    browser.follow("Add tags");
    browser.sees("Tags added to 10 devices.");
    desk.open("/devices");
    let browser = &mut desk.browser;
    browser.fill("[name=tags]", "canary");
    browser.sees("10 devices");
    // All that are found, not only those on the page.
    browser.click_on("document.querySelector('[name=all]')");
    let release = desk.fleet.firmware("1.1.0", "healthy");
    desk.fleet.does(&["release", "upload", &release]);
    desk.browser.follow("Update…");
    desk.browser.sees("10 devices to update");
    assert_eq!(desk.browser.complaints(), Vec::<String>::new());
}

#[test]
fn a_server_that_goes_away_is_told_and_comes_back() {
    let Some(mut desk) = Desk::start(&["--dev"]) else { return };
    let devices = desk.devices(3, "10", &[]);
    desk.log_in();
    desk.open("/devices");
    let lost = "!document.querySelector('#lost').hidden";
    assert_eq!(desk.browser.eval(lost), false);
    desk.fleet.kill();
    desk.browser.wait(lost);
    desk.fleet.begin();
    desk.browser.wait("document.querySelector('#lost').hidden");
    // What changes from then on is seen without a reload.
    desk.browser.eval("window.stayed = true");
    drop(devices);
    desk.browser.wait("document.querySelectorAll('.dot.on').length === 0");
    assert_eq!(desk.browser.eval("window.stayed"), true);
}
