//! The dashboard under a path behind nginx, which takes no large files and holds back what it is told.

use otaru_testing::{free_port, have};

use crate::browser::desk::Desk;
use crate::server::proxies::Proxy;

#[test]
fn a_site_under_a_path_lives_and_tells_what_a_proxy_refuses() {
    if !have(&["nginx"]) {
        return;
    }
    let port = free_port();
    let origin = format!("http://127.0.0.1:{port}");
    let public = format!("{origin}/ota");
    let Some(mut desk) = Desk::start(&["--dev", "--public-url", &public, "--trusted-proxy", "127.0.0.1"])
    else {
        return;
    };
    let _proxy = Proxy::plain_nginx(port, desk.fleet.http);
    let (small, large) =
        (desk.fleet.firmware("1.1.0", "healthy"), desk.fleet.firmware_of("1900K", "1.2.0", "healthy"));
    let _devices = desk.devices(4, "20", &[]);
    desk.browser.open(&format!("{public}/releases"));
    assert_eq!(desk.browser.eval("location.pathname"), "/ota/login");
    let token = desk.fleet.token.clone();
    let browser = &mut desk.browser;
    browser.fill("#token", &token);
    browser.follow("Log in");
    assert_eq!(browser.eval("location.pathname"), "/ota/releases");
    assert_eq!(browser.complaints(), Vec::<String>::new());

    browser.choose_file("#file", &large);
    browser.sees("A proxy in front of the server rejects files this large (413)");
    assert!(browser.complaints().iter().all(|complaint| complaint.contains("413")));
    browser.leaving(|browser| browser.choose_file("#file", &small));
    browser.sees("Read: lamp 1.1.0 for esp32c3.");
    browser.follow("Roll out…");
    browser.sees("4 devices to update");
    browser.follow("Start");
    browser.sees("4 of 4 devices done");
    browser.wait("document.querySelector('#head .badge').innerText === 'completed'");
    assert_eq!(browser.complaints(), Vec::<String>::new());
}
