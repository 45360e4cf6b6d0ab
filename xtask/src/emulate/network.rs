//! The Wi-Fi goes and comes: at rest, and in an update.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::limits::UPDATE;
use super::story::{Run, Shown, is_confirmed, said};

/// Reason that nothing is shown of Wi-Fi that goes.
const KEPT: &str = "this emulator keeps the device joined although its network's link is down";
/// Times that the Wi-Fi is away: short, as long as a router's restart, and as long as one with updates.
const AWAY: [Duration; 3] = [Duration::from_secs(5), Duration::from_secs(22), Duration::from_secs(100)];
/// Longest time until the device has joined again, address and all.
const JOINED: Duration = Duration::from_secs(5);
/// Longest time until the device notices, where the emulator tells it at all.
const NOTICED: Duration = Duration::from_secs(20);
/// Longest time for anything that has no bound of its own here.
const AMPLE: Duration = Duration::from_secs(120);

impl Run {
    /// Takes the Wi-Fi away from a device at rest. The emulator must end the device's association when its network's link
    /// goes down; where it does not, nothing can be shown here.
    pub(super) fn wifi_goes_and_comes(&mut self) -> Result<Shown> {
        self.cold_start()?;
        let (mut slow, mut table) = (None, Vec::new());
        for away in AWAY {
            let start = Instant::now();
            if !self.wifi_goes()? {
                return Ok(Shown::No(KEPT));
            }
            std::thread::sleep(away.saturating_sub(start.elapsed()));
            let away = start.elapsed();
            let joined = self.wifi_comes()?;
            self.wait_line(AMPLE, "the broker, after the Wi-Fi was away", &["broker: connected"])?;
            let broker = start.elapsed().saturating_sub(away);
            let (joined_s, broker_s) = (joined.as_secs_f64(), broker.as_secs_f64());
            table.push(format!("| {:.0} s | {joined_s:.1} s | {broker_s:.1} s |", away.as_secs_f64()));
            if joined > JOINED {
                slow = Some(joined_s);
            }
        }
        println!("| Wi-Fi away | joined after | at the broker after |\n| ---: | ---: | ---: |");
        println!("{}", table.join("\n"));
        match slow {
            Some(seconds) => {
                anyhow::bail!("joined after {seconds:.1} s, at most {} s are right", JOINED.as_secs())
            }
            None => Ok(Shown::Yes),
        }
    }

    /// Takes it away in the middle of a download, which must go on where it was.
    pub(super) fn wifi_goes_in_an_update(&mut self) -> Result<Shown> {
        self.cold_start()?;
        let start = Instant::now();
        let update = &self.images.first;
        self.publish(update.file)?;
        self.wait_line(UPDATE, "the download", &["OTA Progress: 30%"])?;
        if !self.wifi_goes()? {
            return Ok(Shown::No(KEPT));
        }
        std::thread::sleep(Duration::from_secs(5));
        self.wifi_comes()?;
        let update = &self.images.first;
        let status = self.wait(UPDATE, "the confirmation", |status| is_confirmed(status, update))?;
        // Since the Wi-Fi was back.
        let console = self.machine.console_since_mark()?;
        for anew in ["Starting OTA update", "OTA Progress: 0%", "OTA Progress: 10%"] {
            ensure!(!console.contains(anew), "the update was begun anew:\n{console}");
        }
        said(start, &format!("updated to {} although the Wi-Fi was away in the download", status.version));
        Ok(Shown::Yes)
    }

    /// Returns whether the device noticed; the network is back where it did not.
    fn wifi_goes(&mut self) -> Result<bool> {
        self.machine.mark();
        self.machine.set_link(false)?;
        let noticed = self.machine.wait_line(NOTICED, &["network:", "joining"])?;
        if !noticed {
            self.machine.set_link(true)?;
        }
        Ok(noticed)
    }

    /// Returns how long it took to join.
    fn wifi_comes(&mut self) -> Result<Duration> {
        self.machine.mark();
        self.machine.set_link(true)?;
        let up = Instant::now();
        self.wait_line(AMPLE, "the address, after the Wi-Fi was away", &["wifi: address"])?;
        Ok(up.elapsed())
    }
}
