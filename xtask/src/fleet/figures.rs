//! Figures of a server under a fleet: memory, processor time, messages, and the table of them.

use std::fs;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result};

use crate::processes::Stat;
use crate::serve::{Running, Server};

/// Beginning of the names of threads that run devices in the server's process.
const DEVICES: &str = "devices";

impl Running {
    /// Bytes of memory that it has in use.
    pub(super) fn rss(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(kib * 1024)
    }

    /// Seconds of processor time it had, without that of threads that run devices.
    fn cpu(&self) -> Result<f64> {
        let folder = Path::new("/proc").join(self.0.id().to_string());
        let all = Stat::read(&folder)?.own;
        let mut devices = 0.0;
        for thread in fs::read_dir(folder.join("task"))? {
            // A thread may end meanwhile; those that run devices do not.
            let thread = thread?.path();
            let Ok(name) = fs::read_to_string(thread.join("comm")) else { continue };
            if name.starts_with(DEVICES) {
                devices += Stat::read(&thread)?.own;
            }
        }
        Ok(all - devices)
    }
}

/// Figures at a moment.
pub(super) struct Note {
    at: Instant,
    cpu: f64,
    received: f64,
    sent: f64,
}

impl Note {
    pub(super) fn now(server: &Server) -> Result<Self> {
        let text = server.metrics()?;
        let metric = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|value| value.trim().parse::<f64>().ok())
                .with_context(|| format!("no metric {name}"))
        };
        Ok(Self {
            at: Instant::now(),
            cpu: server.running.cpu()?,
            received: metric("otaru_mqtt_received_total ")?,
            sent: metric("otaru_mqtt_sent_total ")?,
        })
    }
}

/// The table: a row for each step.
pub(super) struct Table {
    devices: f64,
    /// Memory of the process before the devices came.
    empty: u64,
}

impl Table {
    /// Prints its head.
    pub(super) fn begin(server: &Server, devices: usize) -> Result<Self> {
        println!(
            "| step | seconds | server CPU s | server CPU ms a device | MQTT in/s | MQTT out/s | RSS MiB | more KiB a device |"
        );
        println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
        Ok(Self { devices: devices as f64, empty: server.running.rss()? })
    }

    /// Prints the row of a step, and gives back the processor time that it took for each device, in milliseconds.
    pub(super) fn row(&self, step: &str, start: &Note, server: &Server) -> Result<f64> {
        let (now, rss) = (Note::now(server)?, server.running.rss()?);
        let (seconds, cpu) = ((now.at - start.at).as_secs_f64(), now.cpu - start.cpu);
        let each = cpu * 1_000.0 / self.devices;
        println!(
            "| {step} | {seconds:.1} | {cpu:.1} | {each:.2} | {:.0} | {:.0} | {:.0} | {:.1} |",
            (now.received - start.received) / seconds,
            (now.sent - start.sent) / seconds,
            rss as f64 / 1_048_576.0,
            rss.saturating_sub(self.empty) as f64 / 1_024.0 / self.devices
        );
        Ok(each)
    }
}
