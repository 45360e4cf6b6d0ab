//! The set-up page: what it must refuse, what it takes, and that it is used from then on.

use std::time::Instant;

use anyhow::{Result, ensure};

use super::images::a_copy;
use super::limits::START;
use super::story::{Run, said};
use super::{browser, machine, peers};

const NAME: &str = "told-by-phone";

/// Entries that would take the device off the network for good, were they kept: fields in place of good ones, as a browser
/// sends them.
const HOSTILE: [(&str, &str); 9] = [
    ("topic", "ESP32%2Fota%2F"),
    ("topic", "%2F"),
    ("topic", "ESP32%2F%23"),
    ("ssid", "Espressif%00"),
    ("host", "mqtt%3A%2F%2F10.0.2.2"),
    ("host", "10.0.2.2%3A1883"),
    ("host", "broker%00.lan"),
    ("port", "0"),
    ("name", "a%2Fb"),
];

impl Run {
    /// A device that was told nothing is told on its page, keeps it, and uses it from then on. What cannot work is refused
    /// there, and leaves nothing behind.
    pub(super) fn set_up(&mut self) -> Result<()> {
        let start = Instant::now();
        let port = peers::free_port()?;
        let first_device = self.machine.flash().to_owned();
        let flash = a_copy(&self.images.not_set_up, &self.folder.join("set-up-flash.bin"))?;
        self.machine.with_flash(flash, Some(port))?;
        self.machine.power_on()?;
        self.shows_the_page(port)?;
        let broker = self.images.port.to_string();
        let good = [("ssid", machine::NETWORK), ("host", machine::HOST), ("port", &broker), ("name", NAME)];
        let refused = browser::send(port, &good[..1])?;
        ensure!(!refused.contains("Kept."), "a form without a broker is taken: {refused}");
        for (name, value) in HOSTILE {
            let mut fields: Vec<_> = good.into_iter().filter(|(other, _)| *other != name).collect();
            fields.push((name, value));
            let answer = browser::send(port, &fields)?;
            ensure!(!answer.contains("Kept."), "{name}={value} is taken: {answer}");
        }
        self.machine.cut()?;
        self.machine.power_on()?;
        self.shows_the_page(port)?;
        said(
            start,
            &format!("{} kinds of hostile input refused on the set-up page, nothing kept", HOSTILE.len()),
        );
        let taken = browser::send(port, &good)?;
        ensure!(taken.contains("Kept."), "the page's answer is {taken}");
        for what in ["the restart after set-up", "a cold start after set-up"] {
            let status = self.wait(START, what, |status| status.device == NAME)?;
            ensure!(status.version == "0.9.0", "{what}: version {}", status.version);
            self.machine.cut()?;
            self.broker.forget()?;
            self.machine.power_on()?;
        }
        self.machine.with_flash(first_device, None)?;
        self.broker.forget()?;
        said(start, &format!("set up on its page; online as {NAME} after that and after a loss of power"));
        Ok(())
    }

    fn shows_the_page(&self, port: u16) -> Result<()> {
        let page = browser::page(port)?;
        ensure!(page.contains("<form") && page.contains("name=\"ssid\""), "the set-up page is {page}");
        Ok(())
    }
}
