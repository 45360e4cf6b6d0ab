//! `cargo xtask bench fleet`: a server and thousands of virtual devices on this machine, two updates and a bad one.
//!
//! Three releases. The first updates all devices; the second works; the third panics on one device in twenty, and its rollout
//! must stop. Printed is what the server needed for it: memory, processor time, messages a second. The devices run the agent
//! unchanged, over flash in memory: in processes of their own and over sockets, or, where there are more than files, in the server's process and
//! over streams. `figures` is what is measured.

mod figures;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use serde_json::Value;

use self::figures::{Note, Table};
use crate::pages;
use crate::serve::{Running, Server};
use crate::shell::{cargo, program, root, run};

/// Devices in one process: each needs a file descriptor or two, and a process may have only so many.
const IN_ONE: usize = 5_000;
/// Longest that a step may take.
const LIMIT: Duration = Duration::from_secs(1_800);
/// Interval of asking the server how far it is. Counting a large fleet takes it some milliseconds each time.
const LOOK: Duration = Duration::from_millis(500);
/// Milliseconds of the server's processor time that an update of a device took with the broker library `mqtt5` 0.49, on two cores: measured
/// with as many devices.
const WITH_LIBRARY: [(usize, f64); 2] = [(1_000, 2.4), (10_000, 10.0)];

/// Options of `bench fleet`.
#[derive(Args)]
#[command(after_help = AFTER_HELP)]
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
    /// Run the devices in the server's process, each connected to the broker by a stream in memory in place of a socket, as many as there is
    /// memory for
    #[arg(long)]
    streams: bool,
    /// Connect and update the devices once, and measure nothing else
    #[arg(long)]
    once: bool,
}

const AFTER_HELP: &str = "\
The figures have names. `sockets` are devices in processes of their own, 5,000 in each, each process with an address of its own. `streams` are \
devices in the server's process, over the broker's own transport. Both run the agent unchanged. Of `streams` the processor time is that of the \
server's threads alone; the memory is all of the process's, but the last column counts from when all devices are switched on and none is \
connected.

  cargo xtask bench fleet
      a small fleet, a release that must stop, the dashboard
  cargo xtask bench fleet --devices 10000 --concurrency 1000
      what a device costs among more of them
  cargo xtask bench fleet --devices 18000 --concurrency 1000 --once
      as many as there is room for under 20,000 open files
  cargo xtask bench fleet --devices 50000 --concurrency 1000 --streams --once
      more than a process may have files: needs 12 GiB, and ten minutes of two cores; fewer devices do for a look";

/// Tells the story and prints the figures.
pub(crate) fn bench(options: &Options) -> Result<()> {
    let mut build = cargo(&["build", "--quiet", "--release", "--package", "otaru"]);
    run(if options.streams { build.args(["--package", IN_MEMORY]) } else { &mut build })?;
    let mut bench = Bench::start(options)?;
    let name = options.name();
    println!(
        "\n{name}: {} devices, images of {}, {} at the same time, speed {}\n",
        options.devices, options.size, options.concurrency, options.speed
    );
    let table = Table::begin(&bench.server, options.devices)?;
    let start = Note::now(&bench.server)?;
    let devices = bench.connect()?;
    bench.until("every device to be connected", |fleet| fleet["reachable"] == options.devices)?;
    table.row("connect and report", &start, &bench.server)?;
    let versions: &[&str] = if options.once { &["1.1.0"] } else { &["1.1.0", "1.2.0"] };
    let mut each = 0.0;
    for version in versions {
        each = bench.update(version, &table)?;
    }
    println!(
        "\n{name}: {each:.2} ms of the server's processor time for each update of {} devices",
        options.devices
    );
    if let Some((_, before)) = WITH_LIBRARY.iter().find(|(devices, _)| *devices == options.devices) {
        println!("{name}: {:.2} of the {before} ms recorded with the broker library mqtt5", each / before);
    }
    if !options.once {
        bench.more(&table)?;
    }
    drop(devices);
    Ok(())
}

/// The program of `--streams`.
const IN_MEMORY: &str = "fleet-in-memory";

impl Options {
    /// The name of its figures.
    fn name(&self) -> &'static str {
        if self.streams { "streams" } else { "sockets" }
    }
}

impl Bench<'_> {
    /// Updates every device, and makes sure that none is lost. Gives back the server's milliseconds for each.
    fn update(&self, version: &str, table: &Table) -> Result<f64> {
        let all = self.options.devices;
        let start = Note::now(&self.server)?;
        let id = self.rollout(version, "healthy", &[])?;
        let rollout = self.over(id)?;
        let each = table.row(&format!("update to {version}"), &start, &self.server)?;
        let good = count(&rollout, "succeeded");
        ensure!(good == all as u64, "only {good} of {all} succeeded: {rollout}");
        self.until("every device to be there", |fleet| fleet["reachable"] == all && fleet["total"] == all)?;
        let fleet: Value = serde_json::from_str(&self.server.get("/api/v1/fleet")?)?;
        let runs = &fleet["versions"][0];
        ensure!(runs["version"] == version && runs["devices"] == all, "not all report {version}: {fleet}");
        Ok(each)
    }

    /// A release that must stop, and how long pages take.
    fn more(&self, table: &Table) -> Result<()> {
        let all = self.options.devices;
        let start = Note::now(&self.server)?;
        let canaries = (all / 10).max(40).to_string();
        let id =
            self.rollout("1.3.0", "fragile", &["--wave", &canaries, "--stop", "2", "--minimum", "20"])?;
        let rollout = self.over(id)?;
        table.row("1 in 20 crashes: stop", &start, &self.server)?;
        println!(
            "\nstopped by itself: {} updated, {} rolled back ({}), {} were never touched",
            count(&rollout, "succeeded"),
            count(&rollout, "rolled_back"),
            rollout["reasons"],
            count(&rollout, "ready") + count(&rollout, "waiting")
        );
        ensure!(rollout["phase"] == "stopped", "it did not stop: {rollout}");
        self.until("every device to be there", |fleet| fleet["reachable"] == all && fleet["total"] == all)?;
        println!("all {all} devices are there");
        self.pages("nothing going on")?;
        let id = self.rollout("1.4.0", "healthy", &[])?;
        self.pages("while all update")?;
        self.over(id)?;
        Ok(())
    }
}

fn count(rollout: &Value, standing: &str) -> u64 {
    let tallies = rollout["tallies"].as_array().into_iter().flatten();
    tallies.filter_map(|tally| tally[standing].as_u64()).sum()
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

fn firmware(options: &Options, folder: &Path, version: &str, behaviour: &str) -> Result<PathBuf> {
    let file = folder.join(format!("lamp-{version}.bin"));
    let mut command =
        otaru(&["image", "make", "--chip", "esp32c3", "--project", "lamp", "--version", version]);
    command.args(["--size", &options.size, "--behaviour", behaviour, "-o"]).arg(&file);
    ensure!(command.stdout(Stdio::null()).status()?.success(), "cannot make firmware");
    Ok(file)
}

impl<'a> Bench<'a> {
    fn start(options: &'a Options) -> Result<Self> {
        let folder = root().join("target/bench-fleet");
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder)?;
        let otaru = root().join("target/release/otaru");
        let data = folder.join("data");
        let server = match options.streams {
            false => Server::start(&otaru, &data)?,
            true => {
                let firmware = firmware(options, &folder, "1.0.0", "healthy")?;
                let file = otaru.with_file_name(IN_MEMORY);
                Server::start_program(&otaru, &file, |http, metrics| {
                    let mut command = program(&file);
                    command.args(["--http", http, "--metrics", metrics]).arg("--data").arg(data);
                    command.arg("--firmware").arg(firmware);
                    command.args(["--devices", &options.devices.to_string()]);
                    command.args(["--speed", &options.speed.to_string()]);
                    command.stdin(Stdio::piped());
                    command
                })?
            }
        };
        Ok(Self { options, folder, server })
    }

    /// Has the devices come: those in the server's process wait for the end of its input.
    fn connect(&mut self) -> Result<Vec<Running>> {
        match self.server.running.0.stdin.take() {
            Some(_gate) => Ok(Vec::new()),
            None => self.devices(),
        }
    }

    /// Starts devices in processes of their own.
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
            // One address has only so many ports, and its share of HTTP connections; all of these are this machine's.
            command.args(["--source", &format!("127.0.0.{}", 2 + first / IN_ONE)]);
            processes.push(Running(command.stdout(Stdio::null()).spawn()?));
        }
        Ok(processes)
    }

    fn firmware(&self, version: &str, behaviour: &str) -> Result<PathBuf> {
        firmware(self.options, &self.folder, version, behaviour)
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
            std::thread::sleep(LOOK);
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
            std::thread::sleep(LOOK);
        }
    }
}

fn path(path: &Path) -> String {
    path.display().to_string()
}
