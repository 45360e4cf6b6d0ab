//! `cargo xtask bench scale`: a rollout to a million devices, and pages of them, over SQLite and over PostgreSQL in the same run.
//!
//! The devices are rows that a script writes; none runs. What is measured is the database's work: to take all of them into a rollout, to make
//! the first thousand offers, to open the next wave, to draw pages, to note after a restart that nobody is connected any more.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use serde_json::Value;

use crate::pages;
use crate::postgres::{SERVER, psql};
use crate::serve::Server;
use crate::shell::{cargo, program, root, run};

/// Longest time for all devices to be in a rollout.
const LIMIT: Duration = Duration::from_secs(3_600);
/// Devices of the first wave.
const WAVE: usize = 1_000;

/// Pages of the dashboard, each as the visitor of a fleet sees it.
const PAGES: [(&str, &str); 19] = [
    ("overview", "/"),
    ("devices", "/devices"),
    ("devices whose id has a text", "/devices?q=d05"),
    ("devices whose id has a text that none has", "/devices?q=garage"),
    ("devices in the state that all are in", "/devices?state=idle"),
    ("devices of the product of all", "/devices?product=lamp"),
    ("devices with an error that none has", "/devices?error=timeout"),
    ("devices that are well", "/devices?health=well"),
    ("devices with a tag that none has", "/devices?tags=canary"),
    ("devices by their label", "/devices?sort=label"),
    ("devices by their last change", "/devices?sort=last_seen"),
    ("a device", "/devices/d0000007"),
    ("releases", "/releases"),
    ("a release", "/releases/1"),
    ("rollouts", "/rollouts"),
    ("a rollout", "/rollouts/1"),
    ("a new rollout", "/rollouts/new"),
    ("the same, with who it hits", "/rollouts/new?sent=1&release=2"),
    ("audit log", "/audit"),
];

/// Options of `bench scale`.
#[derive(Args)]
#[command(after_help = "\
PostgreSQL is measured where there is one:
  cargo run -p otaru-testing --example with-postgres -- cargo xtask bench scale")]
pub(crate) struct Options {
    /// Number of devices
    #[arg(long, default_value_t = 1_000_000)]
    devices: usize,
}

/// Prints what each database takes.
pub(crate) fn bench(options: &Options) -> Result<()> {
    run(&mut cargo(&["build", "--quiet", "--release", "--package", "otaru"]))?;
    let folder = root().join("target/bench-scale");
    Store::Sqlite.measure(&folder, options)?;
    match std::env::var(SERVER) {
        Ok(server) => Store::Postgres(server).measure(&folder, options)?,
        Err(_) => println!("\nSKIPPED: PostgreSQL: {SERVER} names no server; see --help"),
    }
    Ok(())
}

/// A database that is measured.
enum Store {
    Sqlite,
    /// Beginning of the URLs of its databases.
    Postgres(String),
}

impl Store {
    fn measure(&self, folder: &Path, options: &Options) -> Result<()> {
        if folder.exists() {
            fs::remove_dir_all(folder)?;
        }
        fs::create_dir_all(folder)?;
        let otaru = root().join("target/release/otaru");
        if let Self::Postgres(server) = self {
            psql(&format!("{server}/postgres"), "DROP DATABASE IF EXISTS scale WITH (FORCE)")?;
            psql(&format!("{server}/postgres"), "CREATE DATABASE scale")?;
        }
        let most = (options.devices + WAVE).to_string();
        let mut arguments = vec!["--max-devices", &most];
        let url = self.url();
        if let Some(url) = &url {
            arguments.extend(["--database", url]);
        }
        let server = Server::start_with(&otaru, &folder.join("data"), &arguments, Stdio::null())?;
        let firmware = |version: &str| -> Result<String> {
            let file = folder.join(format!("{version}.bin")).display().to_string();
            let mut make = program(&otaru);
            make.args(["image", "make", "--chip", "esp32c3", "--project", "lamp", "--size", "40K"]);
            ensure!(
                make.args(["--version", version, "-o", &file]).stdout(Stdio::null()).status()?.success(),
                "no firmware"
            );
            Ok(file)
        };
        server.user(&["release", "upload", &firmware("1.0.0")?])?;
        server.user(&["release", "upload", &firmware("1.1.0")?])?;
        self.fill(folder, options.devices)?;
        let bytes = self.bytes(folder)? as f64 / options.devices as f64;
        let figures = Figures::measure(&server, options.devices)?;
        println!(
            "\n{} devices\n\n| database | bytes a device | all in a rollout, s | first {WAVE} offers out, s | the next wave open, s |\n\
             | --- | --- | --- | --- | --- |",
            options.devices
        );
        println!("| {} | {bytes:.0} | {figures} |", self.name());
        pages::measure(&server, self.name(), &PAGES)?;
        self.measure_restart(server, &folder.join("data"), &arguments)
    }

    /// Prints how long it takes after a loss of power until the server answers, and until it knows that no device is connected any more.
    fn measure_restart(&self, server: Server, data: &Path, arguments: &[&str]) -> Result<()> {
        let start = Instant::now();
        let server = server.start_again(data, arguments, Stdio::null())?;
        server.get("/api/v1/devices?limit=1")?;
        let answered = start.elapsed();
        while is_one_there(&server)? {
            ensure!(start.elapsed() < LIMIT, "devices are not noted as gone");
            std::thread::sleep(Duration::from_millis(100));
        }
        println!(
            "\n| started again, {} | answers, s | knows that all are gone, s |\n| --- | --- | --- |\n| | {:.1} | {:.1} |",
            self.name(),
            answered.as_secs_f64(),
            start.elapsed().as_secs_f64()
        );
        Ok(())
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Sqlite => "SQLite",
            Self::Postgres(_) => "PostgreSQL",
        }
    }

    fn url(&self) -> Option<String> {
        match self {
            Self::Sqlite => None,
            Self::Postgres(server) => Some(format!("{server}/scale")),
        }
    }

    /// Writes rows of devices that run 1.0.0 and are there.
    fn fill(&self, folder: &Path, devices: usize) -> Result<()> {
        match self {
            Self::Sqlite => {
                let mut python = program("python3");
                python.args(["-c", SQLITE_FILL]).arg(folder.join("data/otaru.db")).arg(devices.to_string());
                ensure!(python.status()?.success(), "no devices: python3 failed");
                Ok(())
            }
            Self::Postgres(_) => psql(&self.url().unwrap_or_default(), &postgres_fill(devices)).map(drop),
        }
    }

    /// Returns the bytes of the database.
    fn bytes(&self, folder: &Path) -> Result<u64> {
        match self {
            Self::Sqlite => Ok(fs::metadata(folder.join("data/otaru.db"))?.len()),
            Self::Postgres(_) => {
                let text = psql(&self.url().unwrap_or_default(), "SELECT pg_database_size('scale')")?;
                Ok(text.parse()?)
            }
        }
    }
}

/// Devices as rows; the counts that triggers keep are written once.
const SQLITE_FILL: &str = "
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], timeout=60); n = int(sys.argv[2])
image, = db.execute(\"SELECT image FROM releases WHERE version = '1.0.0'\").fetchone()
db.execute('DROP TRIGGER devices_came')
# In pieces, as the server writes, too.
for first in range(0, n, 50000):
  rows = (('d%07d' % i, image) for i in range(first, min(n, first + 50000)))
  db.executemany(\"\"\"INSERT INTO devices (id, first_seen, last_seen, reachable, chip, product, version, image, state, reported_at, report, confirmed)
    VALUES (?, 1, 1, 1, 'esp32c3', 'lamp', '1.0.0', ?, 'idle', 1, '{}', 1)\"\"\", rows)
  db.commit()
db.execute(\"UPDATE counts SET value = ? WHERE name = 'devices'\", (n,))
db.execute('''CREATE TRIGGER devices_came AFTER INSERT ON devices WHEN NEW.retired_at IS NULL BEGIN
    UPDATE counts SET value = value + 1 WHERE name = 'devices'; END''')
db.commit()
";

fn postgres_fill(devices: usize) -> String {
    format!(
        "SET session_replication_role = replica;
         INSERT INTO devices (id, first_seen, last_seen, reachable, chip, product, version, image, state, reported_at, report, confirmed)
         SELECT 'd' || lpad(n::text, 7, '0'), 1, 1, TRUE, 'esp32c3', 'lamp', '1.0.0', r.image, 'idle', 1, '{{}}', TRUE
         FROM generate_series(0, {devices} - 1) n, releases r WHERE r.version = '1.0.0';
         UPDATE counts SET value = {devices} WHERE name = 'devices';
         ANALYZE"
    )
}

/// Figures over one database.
struct Figures {
    admitted: Duration,
    offered: Duration,
    opened: Duration,
}

impl Figures {
    fn measure(server: &Server, devices: usize) -> Result<Self> {
        let start = Instant::now();
        let wave = WAVE.to_string();
        let order = [
            "rollout",
            "create",
            "lamp@1.1.0",
            "--wave",
            &wave,
            "--by-hand",
            "--concurrency",
            &wave,
            "--timeout",
            "2h",
        ];
        let id = server.user(&order)?["id"].as_u64().context("no rollout")?;
        let (mut offered, mut admitted) = (None, None);
        while offered.is_none() || admitted.is_none() {
            ensure!(start.elapsed() < LIMIT, "not all are in the rollout");
            std::thread::sleep(Duration::from_millis(100));
            if offered.is_none() && sent(server)? >= WAVE as f64 {
                offered = Some(start.elapsed());
            }
            let rollout: Value = serde_json::from_str(&server.get(&format!("/api/v1/rollouts/{id}"))?)?;
            if admitted.is_none() && tallied(&rollout) >= devices as u64 {
                admitted = Some(start.elapsed());
            }
        }
        let opening = Instant::now();
        let before = sent(server)?;
        server.user(&["rollout", "advance", &id.to_string()])?;
        let opened = opening.elapsed();
        ensure!(before >= WAVE as f64, "no offers");
        let (Some(admitted), Some(offered)) = (admitted, offered) else { bail!("nothing was measured") };
        Ok(Self { admitted, offered, opened })
    }
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let seconds = |time: Duration| format!("{:.1}", time.as_secs_f64());
        write!(f, "{} | {} | {}", seconds(self.admitted), seconds(self.offered), seconds(self.opened))
    }
}

/// Whether a device is taken to be connected.
fn is_one_there(server: &Server) -> Result<bool> {
    let page: Value = serde_json::from_str(&server.get("/api/v1/devices?reachable=true&limit=1")?)?;
    Ok(page["items"].as_array().is_some_and(|items| !items.is_empty()))
}

/// Returns the number of devices that a rollout counts.
fn tallied(rollout: &Value) -> u64 {
    let tallies = rollout["tallies"].as_array().map(Vec::as_slice).unwrap_or_default();
    let counts = tallies.iter().filter_map(Value::as_object).flat_map(|tally| tally.values());
    counts.filter_map(Value::as_u64).sum()
}

/// Returns the number of messages that were sent to devices.
fn sent(server: &Server) -> Result<f64> {
    server.metric("otaru_mqtt_sent_total")
}
