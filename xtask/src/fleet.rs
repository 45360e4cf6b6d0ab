//! `cargo xtask bench fleet`: a server and thousands of virtual devices on this machine, two updates and a bad one.
//!
//! Three releases. The first updates all devices; the second works; the third panics on one device in twenty, and its rollout
//! must stop. Printed is what the server needed for it: memory, processor time, messages a second. The devices run the agent
//! unchanged, in processes of their own, over flash in memory.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use serde_json::Value;

use crate::pages;
use crate::serve::{Running, Server};
use crate::shell::{cargo, program, root, run};

/// Devices in one process: each needs a file descriptor or two, and a process may have only so many.
const IN_ONE: usize = 5_000;
/// Longest that a step may take.
const LIMIT: Duration = Duration::from_secs(1_200);

/// Options of `bench fleet`.
#[derive(Args)]
pub(crate) struct Options {
    /// Number of devices
    #[arg(long, default_value_t = 1_000)]
    devices: usize,
    /// Factor by which their flash and waits are faster than real time
    #[arg(long, default_value_t = 1.0)]
    speed: f64,
    /// The most devices that update at the same time
    #[arg(long, default_value_t = 500)]
    concurrency: u32,
    /// Bytes of an image
    #[arg(long, default_value = "64K")]
    size: String,
}

/// Tells the story and prints the figures.
pub(crate) fn bench(options: &Options) -> Result<()> {
    run(&mut cargo(&["build", "--quiet", "--release", "--package", "otaru"]))?;
    let bench = Bench::start(options)?;
    println!(
        "\n{} devices, images of {}, {} at the same time, speed {}\n",
        options.devices, options.size, options.concurrency, options.speed
    );
    println!("| step | seconds | server CPU s | MQTT in/s | MQTT out/s | server RSS MiB | KiB a device |");
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    let empty = bench.server.running.rss()?;
    let start = bench.note()?;
    let devices = bench.devices()?;
    bench.until("every device to be connected", |fleet| fleet["reachable"] == options.devices)?;
    bench.tell("connect and report", &start, empty)?;
    for version in ["1.1.0", "1.2.0"] {
        let start = bench.note()?;
        let id = bench.rollout(version, "healthy", &[])?;
        let rollout = bench.over(id)?;
        bench.tell(&format!("update to {version}"), &start, empty)?;
        let good = count(&rollout, "succeeded");
        ensure!(good == options.devices as u64, "only {good} of {} succeeded: {rollout}", options.devices);
    }
    let start = bench.note()?;
    let canaries = (options.devices / 10).max(40).to_string();
    let id = bench.rollout("1.3.0", "fragile", &["--wave", &canaries, "--stop", "2", "--minimum", "20"])?;
    let rollout = bench.over(id)?;
    bench.tell("1 in 20 crashes: stop", &start, empty)?;
    println!(
        "\nstopped by itself: {} updated, {} rolled back ({}), {} were never touched",
        count(&rollout, "succeeded"),
        count(&rollout, "rolled_back"),
        rollout["reasons"],
        count(&rollout, "ready") + count(&rollout, "waiting")
    );
    ensure!(rollout["phase"] == "stopped", "it did not stop: {rollout}");
    bench.until("every device to be there", |fleet| {
        fleet["reachable"] == options.devices && fleet["total"] == options.devices
    })?;
    println!("all {} devices are there", options.devices);
    bench.pages("nothing going on")?;
    let id = bench.rollout("1.4.0", "healthy", &[])?;
    bench.pages("while all update")?;
    bench.over(id)?;
    drop(devices);
    Ok(())
}

fn count(rollout: &Value, standing: &str) -> u64 {
    let tallies = rollout["tallies"].as_array().into_iter().flatten();
    tallies.filter_map(|tally| tally[standing].as_u64()).sum()
}

impl Running {
    /// Bytes of memory that it has in use.
    fn rss(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(kib * 1024)
    }

    /// Seconds of processor time it had.
    fn cpu(&self) -> Result<f64> {
        /// Of the kernel's accounting, on every Linux there is.
        const TICKS: f64 = 100.0;
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0.id()))?;
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let field = |index: usize| fields.get(index).and_then(|text| text.parse::<f64>().ok());
        Ok((field(11).context("no utime")? + field(12).context("no stime")?) / TICKS)
    }
}

/// Figures at a moment.
struct Note {
    at: Instant,
    cpu: f64,
    received: f64,
    sent: f64,
}

struct Bench<'a> {
    options: &'a Options,
    folder: PathBuf,
    server: Server,
}

fn otaru(args: &[&str]) -> Command {
    let mut command = program(root().join("target/release/otaru"));
    command.args(args).stdin(Stdio::null());
    command
}

impl<'a> Bench<'a> {
    fn start(options: &'a Options) -> Result<Self> {
        let folder = root().join("target/bench-fleet");
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder)?;
        let server = Server::start(&root().join("target/release/otaru"), &folder.join("data"))?;
        Ok(Self { options, folder, server })
    }

    fn devices(&self) -> Result<Vec<Running>> {
        let firmware = self.firmware("1.0.0", "healthy")?;
        let broker = format!("mqtt://127.0.0.1:{}", self.server.mqtt);
        let mut processes = Vec::new();
        for first in (0..self.options.devices).step_by(IN_ONE) {
            let count = IN_ONE.min(self.options.devices - first).to_string();
            let mut command =
                otaru(&["sim", "--no-watch", "--json", "--broker", &broker, "--devices", &count]);
            command.args(["--speed", &self.options.speed.to_string(), "--firmware"]).arg(&firmware);
            command.args(["--name-prefix", &format!("dev{}-", first / IN_ONE)]);
            // The broker takes 10,000 connections from one address; all of these are this machine's.
            command.args(["--source", &format!("127.0.0.{}", 2 + first / IN_ONE)]);
            processes.push(Running(command.stdout(Stdio::null()).spawn()?));
        }
        Ok(processes)
    }

    fn firmware(&self, version: &str, behaviour: &str) -> Result<PathBuf> {
        let file = self.folder.join(format!("lamp-{version}.bin"));
        let mut command =
            otaru(&["image", "make", "--chip", "esp32c3", "--project", "lamp", "--version", version]);
        command.args(["--size", &self.options.size, "--behaviour", behaviour, "-o"]).arg(&file);
        ensure!(command.stdout(Stdio::null()).status()?.success(), "cannot make firmware");
        Ok(file)
    }

    fn rollout(&self, version: &str, behaviour: &str, more: &[&str]) -> Result<u64> {
        let file = self.firmware(version, behaviour)?;
        self.server.user(&["release", "upload", &path(&file)])?;
        let (release, most) = (format!("lamp@{version}"), self.options.concurrency.to_string());
        let create = ["rollout", "create", &release, "--concurrency", &most, "--timeout", "10m"];
        self.server.user(&[&create, more].concat())?["id"].as_u64().context("no rollout")
    }

    /// The rollout when it is over, or stopped with nothing under way.
    fn over(&self, id: u64) -> Result<Value> {
        let (id, start) = (id.to_string(), Instant::now());
        loop {
            let rollout = self.server.user(&["rollout", "show", &id])?;
            match rollout["phase"].as_str() {
                Some("completed" | "aborted") => return Ok(rollout),
                Some("stopped") if count(&rollout, "active") == 0 => return Ok(rollout),
                _ => {}
            }
            ensure!(start.elapsed() < LIMIT, "it does not end: {rollout}");
            std::thread::sleep(Duration::from_millis(250));
        }
    }

    /// Measures how long the dashboard takes.
    fn pages(&self, when: &str) -> Result<()> {
        let pages = [
            ("overview", "/"),
            ("devices", "/devices"),
            ("devices, searched", "/devices?q=dev0-00"),
            ("devices, by tags", "/devices?tags=canary"),
            ("devices, by version", "/devices?versions=%3C1.4.0&sort=last_seen&descending=1"),
            ("a device", "/devices/dev0-0001"),
            ("releases", "/releases"),
            ("new rollout, with who it hits", "/rollouts/new"),
            ("a rollout", "/rollouts/1"),
            ("audit", "/audit"),
        ];
        pages::measure(&self.server, when, &pages)
    }

    fn until(&self, what: &str, is: impl Fn(&Value) -> bool) -> Result<()> {
        let start = Instant::now();
        loop {
            let fleet = self.server.get("/api/v1/fleet")?;
            if is(&serde_json::from_str(&fleet)?) {
                return Ok(());
            }
            if start.elapsed() >= LIMIT {
                bail!("waited for {what}: {fleet}");
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn note(&self) -> Result<Note> {
        let text = self.server.metrics()?;
        let metric = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|value| value.trim().parse::<f64>().ok())
                .with_context(|| format!("no metric {name}"))
        };
        Ok(Note {
            at: Instant::now(),
            cpu: self.server.running.cpu()?,
            received: metric("otaru_mqtt_received_total ")?,
            sent: metric("otaru_mqtt_sent_total ")?,
        })
    }

    fn tell(&self, step: &str, start: &Note, empty: u64) -> Result<()> {
        let (now, rss) = (self.note()?, self.server.running.rss()?);
        let seconds = (now.at - start.at).as_secs_f64();
        println!(
            "| {step} | {seconds:.1} | {:.1} | {:.0} | {:.0} | {:.0} | {:.1} |",
            now.cpu - start.cpu,
            (now.received - start.received) / seconds,
            (now.sent - start.sent) / seconds,
            rss as f64 / 1_048_576.0,
            rss.saturating_sub(empty) as f64 / 1_024.0 / self.options.devices as f64
        );
        Ok(())
    }
}

fn path(path: &Path) -> String {
    path.display().to_string()
}
