//! `cargo xtask bench servers`: what a report costs one, two and three servers over one PostgreSQL, and one over SQLite, in the same run.
//!
//! Devices are messages: what a device says during an update, one after the other. The next is sent when the last of each device is taken in.
//! All servers hear all of them at one Mosquitto, and share the machine with it and with the database. So two cores show what more
//! servers cost, and not how much more they carry.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use serde_json::{Value, json};

use crate::broker::{Broker, median, mosquitto, publish};
use crate::postgres::{SERVER, psql};
use crate::processes::Stat;
use crate::serve::Server;
use crate::shell::{cargo, find, root, run};

/// Longest time for servers to share the fleet, and to take in a message of each device.
const LIMIT: Duration = Duration::from_secs(300);
/// Interval of asking how far they are.
const LOOK: Duration = Duration::from_millis(100);
/// Time after which PostgreSQL's counts have all that happened before.
const COUNTED: Duration = Duration::from_secs(2);
/// Shards of a fleet.
const SHARDS: u64 = 256;
/// States that a device tells of during an update, each of which its server keeps.
const STATES: [&str; 6] = ["checking", "downloading", "verifying", "restarting", "trial", "confirmed"];
/// Numbers of servers that are measured.
const SERVERS: [usize; 3] = [1, 2, 3];
/// Settings of a broker that drops nothing.
const KEEP_ALL: &str = "max_queued_messages 0\n";

/// Options of `bench servers`.
#[derive(Args)]
#[command(after_help = "\
PostgreSQL is measured where there is one:
  cargo run -p otaru-testing --example with-postgres -- cargo xtask bench servers")]
pub(crate) struct Options {
    /// Number of devices
    #[arg(long, default_value_t = 2_000)]
    devices: usize,
    /// Number of times each is measured
    #[arg(long, default_value_t = 3)]
    rounds: usize,
}

/// Prints what each number of servers takes, and its part of what one takes.
pub(crate) fn bench(options: &Options) -> Result<()> {
    if find("mosquitto").is_none() {
        println!("\nSKIPPED: servers: mosquitto is missing; on Debian: apt-get install mosquitto");
        return Ok(());
    }
    run(&mut cargo(&["build", "--quiet", "--release", "--package", "otaru"]))?;
    let folder = root().join("target/bench-servers");
    println!(
        "\n{} devices, {} reports of each\n\n| database | servers | round | reports a second | servers' processor time a report, ms | \
         the database's, ms | transactions a report | deadlocks |\n| --- | --- | --- | --- | --- | --- | --- | --- |",
        options.devices,
        STATES.len()
    );
    let postgres = std::env::var(SERVER).ok();
    let mut cases: Vec<Case> = vec![Case { postgres: None, servers: 1 }];
    cases.extend(SERVERS.iter().filter_map(|servers| {
        postgres.as_ref().map(|server| Case { postgres: Some(server.clone()), servers: *servers })
    }));
    let mut rounds: Vec<Vec<Figures>> = Vec::new();
    for round in 1..=options.rounds {
        let mut row = Vec::new();
        for case in &cases {
            let figures = case.measure(&folder, options.devices)?;
            println!("| {} | {} | {round} | {figures} |", case.database(), case.servers);
            row.push(figures);
        }
        rounds.push(row);
    }
    println!();
    let ratio =
        |case: usize, base: usize| median(rounds.iter().map(|row| row[case].of_all() / row[base].of_all()));
    for (at, case) in cases.iter().enumerate().skip(1) {
        let beside_one = if at == 1 { ratio(at, 0) } else { ratio(at, 1) };
        let one = if at == 1 { "one over SQLite" } else { "one" };
        println!(
            "- {} over {}: {beside_one:.2} of the processor time of {one}, the database's included",
            case.servers,
            case.database()
        );
    }
    if postgres.is_none() {
        println!("SKIPPED: PostgreSQL: {SERVER} names no server; see --help");
    }
    Ok(())
}

/// So many servers over a database.
struct Case {
    /// Beginning of the URLs of PostgreSQL's databases; none over SQLite.
    postgres: Option<String>,
    servers: usize,
}

impl Case {
    fn database(&self) -> &'static str {
        if self.postgres.is_some() { "PostgreSQL" } else { "SQLite" }
    }

    fn measure(&self, folder: &Path, devices: usize) -> Result<Figures> {
        let cluster = Cluster::start(self, folder)?;
        // They are registered, and what is made once is made.
        cluster.report(devices, 1, "idle")?;
        let (transactions, before) = (cluster.transactions()?, Moment::now(&cluster)?);
        for (n, state) in (2..).zip(STATES) {
            cluster.report(devices, n, state)?;
        }
        let after = Moment::now(&cluster)?;
        // These wait for PostgreSQL, outside of what is timed.
        let more = cluster.transactions()?;
        Ok(after.since(&before, [0, 1].map(|at| more[at] - transactions[at])))
    }
}

/// Servers, their broker and their database, from empty.
struct Cluster {
    broker: Broker,
    servers: Vec<Server>,
    database: Option<Database>,
}

impl Cluster {
    fn start(case: &Case, folder: &Path) -> Result<Self> {
        if folder.exists() {
            fs::remove_dir_all(folder)?;
        }
        fs::create_dir_all(folder)?;
        let database = case.postgres.as_deref().map(Database::make).transpose()?;
        let broker = mosquitto(folder, KEEP_ALL)?;
        let mqtt = format!("mqtt://127.0.0.1:{}", broker.port);
        let firmware = folder.join("firmware").display().to_string();
        let mut options = vec!["--mqtt", mqtt.as_str()];
        if let Some(database) = &database {
            options.extend(["--database", database.url.as_str(), "--artifacts", firmware.as_str()]);
        }
        let otaru = root().join("target/release/otaru");
        let mut servers: Vec<Server> = Vec::new();
        for number in 0..case.servers {
            let data = folder.join(format!("data{number}"));
            servers.push(Server::start_beside(servers.first(), &otaru, &data, &options)?);
        }
        let cluster = Self { broker, servers, database };
        cluster.wait("each server to have its part", |cluster| cluster.is_shared())?;
        Ok(cluster)
    }

    /// Tells whether every server has about as much of the fleet as any other.
    fn is_shared(&self) -> Result<bool> {
        if self.database.is_none() {
            return Ok(true);
        }
        let answer: Value = serde_json::from_str(&self.servers[0].get("/api/v1/servers")?)?;
        let members = answer["items"].as_array().context("no servers")?;
        let shards: Vec<u64> = members.iter().filter_map(|member| member["shards"].as_u64()).collect();
        let least = SHARDS / self.servers.len() as u64;
        Ok(shards.len() == self.servers.len()
            && shards.iter().sum::<u64>() == SHARDS
            && shards.iter().all(|shards| *shards >= least))
    }

    /// Has each device say one thing, and waits until all is taken in. One server is asked for that, however many there are.
    fn report(&self, devices: usize, n: u32, state: &str) -> Result<()> {
        let messages = (0..devices).map(|device| report(device, n, state));
        publish(self.broker.port, "devices", messages, true).context("the devices")?;
        let path = format!("/api/v1/devices?state={state}&limit=1");
        self.wait("all reports to be taken in", |cluster| {
            let answer: Value = serde_json::from_str(&cluster.servers[0].get(&path)?)?;
            Ok(answer["total"].as_u64().is_some_and(|total| total >= devices as u64))
        })
    }

    /// Returns the numbers of the database's transactions and deadlocks so far; none over SQLite.
    fn transactions(&self) -> Result<[f64; 2]> {
        self.database.as_ref().map_or(Ok([0.0; 2]), Database::transactions)
    }

    /// Returns the number of reports that were taken in so far.
    fn taken(&self) -> Result<f64> {
        self.servers.iter().map(|server| server.metric("otaru_reports_total")).sum()
    }

    fn wait(&self, what: &str, is_so: impl Fn(&Self) -> Result<bool>) -> Result<()> {
        let start = Instant::now();
        while !is_so(self)? {
            ensure!(start.elapsed() < LIMIT, "waited {} s for {what}", LIMIT.as_secs());
            std::thread::sleep(LOOK);
        }
        Ok(())
    }
}

/// Returns a report with its topic, as the firmware of a device makes it.
fn report(device: usize, n: u32, state: &str) -> (String, Vec<u8>) {
    let name = format!("device-{device:05}");
    let body = json!({
        "device": name, "chip": "esp32c3", "state": state, "project": "lamp", "version": "1.0.0", "image": "ab".repeat(32),
        "slot": 0, "confirmed": true, "boot": "power on", "uptime": 60 * n, "rssi": -60, "free_heap": 91_000, "free_stack": 4_000,
        "epoch": format!("{:016x}", device + 1), "boots": 1, "n": n,
    });
    (format!("ESP32/ota/{name}/status"), body.to_string().into_bytes())
}

/// A database of PostgreSQL's, made anew.
struct Database {
    url: String,
    /// Process that all of PostgreSQL's are children of.
    postmaster: u32,
}

impl Database {
    fn make(server: &str) -> Result<Self> {
        psql(&format!("{server}/postgres"), "DROP DATABASE IF EXISTS servers WITH (FORCE)")?;
        psql(&format!("{server}/postgres"), "CREATE DATABASE servers")?;
        let url = format!("{server}/servers");
        let file = psql(&url, "SELECT pg_read_file('postmaster.pid')")?;
        let postmaster = file.lines().next().context("an empty postmaster.pid")?.trim().parse()?;
        Ok(Self { url, postmaster })
    }

    /// Returns the seconds of processor time that all of PostgreSQL's processes had, those that ended included.
    fn processor_time(&self) -> Result<f64> {
        let folder = Path::new("/proc");
        let postmaster = Stat::read(&folder.join(self.postmaster.to_string()))?;
        let mut sum = postmaster.own + postmaster.ended;
        for process in fs::read_dir(folder)? {
            // What is no process, or has ended meanwhile, has no such file.
            if let Ok(stat) = Stat::read(&process?.path())
                && stat.parent == self.postmaster
            {
                sum += stat.own;
            }
        }
        Ok(sum)
    }

    /// Returns the numbers of transactions, and of deadlocks. Processes tell of theirs a while later.
    fn transactions(&self) -> Result<[f64; 2]> {
        std::thread::sleep(COUNTED);
        let sql =
            "SELECT xact_commit + xact_rollback, deadlocks FROM pg_stat_database WHERE datname = 'servers'";
        let row = psql(&self.url, sql)?;
        let (all, deadlocks) = row.split_once('|').context("no statistics")?;
        Ok([all.parse()?, deadlocks.parse()?])
    }
}

fn processor_time(server: &Server) -> Result<f64> {
    Ok(Stat::read(&Path::new("/proc").join(server.running.0.id().to_string()))?.own)
}

/// Counts and times at a moment.
struct Moment {
    at: Instant,
    reports: f64,
    servers: f64,
    database: f64,
}

impl Moment {
    fn now(cluster: &Cluster) -> Result<Self> {
        let database = cluster.database.as_ref();
        Ok(Self {
            at: Instant::now(),
            reports: cluster.taken()?,
            servers: cluster.servers.iter().map(processor_time).sum::<Result<f64>>()?,
            database: database.map_or(Ok(0.0), Database::processor_time)?,
        })
    }

    fn since(&self, before: &Self, [transactions, deadlocks]: [f64; 2]) -> Figures {
        let reports = self.reports - before.reports;
        Figures {
            a_second: reports / (self.at - before.at).as_secs_f64(),
            servers: (self.servers - before.servers) * 1e3 / reports,
            database: (self.database - before.database) * 1e3 / reports,
            transactions: transactions / reports,
            deadlocks,
        }
    }
}

/// Figures of one case in one round.
struct Figures {
    a_second: f64,
    /// Milliseconds of processor time a report.
    servers: f64,
    database: f64,
    transactions: f64,
    deadlocks: f64,
}

impl Figures {
    fn of_all(&self) -> f64 {
        self.servers + self.database
    }
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { a_second, servers, database, transactions, deadlocks } = self;
        write!(f, "{a_second:.0} | {servers:.3} | {database:.3} | {transactions:.2} | {deadlocks:.0}")
    }
}
