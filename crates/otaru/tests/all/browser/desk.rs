//! A server with devices, and somebody before its dashboard.

use otaru_testing::{Program, have};

use crate::browser::chromium::Browser;
use crate::server::fleet::Fleet;

/// A fleet and a browser.
pub(crate) struct Desk {
    pub(crate) browser: Browser,
    pub(crate) fleet: Fleet,
}

impl Desk {
    /// A server with these options; nothing, where there is no browser.
    pub(crate) fn start(more: &[&str]) -> Option<Self> {
        if !have(&["chromium"]) {
            return None;
        }
        Some(Self { fleet: Fleet::start(more), browser: Browser::start() })
    }

    /// The address of a page.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.fleet.http)
    }

    /// Opens a page.
    #[track_caller]
    pub(crate) fn open(&mut self, path: &str) {
        let url = self.url(path);
        self.browser.open(&url);
    }

    /// Logs in.
    #[track_caller]
    pub(crate) fn log_in(&mut self) {
        self.open("/login");
        let token = self.fleet.token.clone();
        self.browser.fill("#token", &token);
        self.browser.follow("Log in");
    }

    /// Virtual devices with names and tags, as a fleet has them.
    #[track_caller]
    pub(crate) fn devices(&self, count: usize, speed: &str, more: &[&str]) -> Program {
        let old = self.fleet.firmware("1.0.0", "healthy");
        let devices = self.fleet.devices_at(speed, &old, count, more);
        for (id, name, tag) in [
            ("sim-0001", "Kitchen", "site=berlin"),
            ("sim-0002", "Porch", "site=berlin"),
            ("sim-0003", "Garage", "site=oslo"),
        ] {
            self.fleet.does(&["devices", "label", id, name]);
            self.fleet.does(&["devices", "tag", id, "--set", tag]);
        }
        for number in 4..=count.min(20) {
            self.fleet.does(&["devices", "tag", &format!("sim-{number:04}"), "--set", "site=oslo"]);
        }
        devices
    }
}
