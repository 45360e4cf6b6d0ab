//! The same without a script in the page: links and forms alone.

use crate::browser::desk::Desk;

#[test]
fn everything_can_be_done_without_javascript() {
    let Some(mut desk) = Desk::start(&["--dev"]) else { return };
    desk.browser.scripts(false);
    let new = desk.fleet.firmware("1.1.0", "healthy");
    let _devices = desk.devices(4, "20", &[]);
    desk.log_in();
    desk.browser.sees("Overview");

    desk.open("/devices?q=kit");
    let browser = &mut desk.browser;
    browser.sees("1 device");
    browser.follow("Kitchen");
    browser.sees("came online");
    browser.fill("[name=label]", "Cellar");
    browser.follow("Rename");
    browser.sees("Name changed.");

    desk.open("/releases");
    let browser = &mut desk.browser;
    browser.choose_file("#file", &new);
    browser.follow("Upload");
    browser.sees("Read: lamp 1.1.0 for esp32c3.");
    browser.follow("Roll out…");
    browser.fill("[name=tags]", "site=berlin");
    browser.fill("[name=wave]", "");
    browser.follow("Update preview");
    browser.sees("2 devices to update");
    browser.follow("Start");
    browser.sees("Rollout created.");
    let id = browser.eval("location.pathname");
    desk.fleet.rollout(1, "its end", |rollout| rollout["phase"] == "completed");
    desk.open(id.as_str().unwrap());
    desk.browser.sees("2 of 2 devices done");

    desk.browser.follow("Log out");
    desk.open("/devices");
    assert_eq!(desk.browser.eval("location.pathname"), "/login");
    assert_eq!(desk.browser.complaints(), Vec::<String>::new());
}
