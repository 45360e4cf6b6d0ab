//! `cargo xtask bench broker`: the embedded broker beside Mosquitto in the same run.
//!
//! A fleet of bare connections subscribes, each to a topic of its own, with and without a retained message there; then one publisher
//! sends a message at QoS 1 to each of them, a window of them unacknowledged at a time, and the clock stops when the last has arrived.
//! Each measurement has a process of its own, and the brokers take turns, so that what else the machine does hits both. The load
//! client shares the machine with them: compare the figures with each other, not with those of another machine.

mod load;
mod process;
mod wire;

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::Args;

pub(crate) use load::publish;
use load::{Fleet, retain, status, update};
use process::embedded;
pub(crate) use process::{Broker, mosquitto};
pub(crate) use wire::{CONNACK, PUBACK, Wire};

use crate::shell::{cargo, find, root, run};

/// Retained messages of a small fleet and of a large one, of others than those who connect.
const FEW: usize = 1_000;
const MANY: usize = 20_000;
/// Aims: the embedded broker's part of Mosquitto's time, and that of a large fleet in a small one's.
const AIM: f64 = 1.1;
/// Aim for the memory of a connection that is idle, in KiB.
const AIM_KIB: f64 = 4.0;

/// Threads that connect a fleet, as many devices come at once. One that waits for its answers, and a broker that is done with them sooner
/// than the next come, wake each other up all the time, which measures how fast the system does that; two always leave the broker work.
const THREADS: usize = 2;

/// Figures that are compared.
const COMPARED: [&str; 5] = [
    "connecting",
    "processor time of connecting",
    "connecting, by one thread that waits",
    "connecting to a retained message",
    "a message to each",
];

/// Options of `bench broker`.
#[derive(Args)]
pub(crate) struct Options {
    /// Number of times each is measured
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Connections whose time is measured
    #[arg(long, default_value_t = 5_000)]
    clients: usize,
    /// Connections whose memory is measured; each takes a file descriptor here and one in the broker
    #[arg(long, default_value_t = 10_000)]
    idle: usize,
}

/// Prints what both take, and whether the embedded broker keeps to what is aimed at.
pub(crate) fn bench(options: &Options) -> Result<()> {
    if find("mosquitto").is_none() {
        println!("\nSKIPPED: brokers: mosquitto is missing; on Debian: apt-get install mosquitto");
        return Ok(());
    }
    raise_file_limit(options.clients.max(options.idle))?;
    run(&mut cargo(&["build", "--quiet", "--release", "--package", "otaru"]))?;
    let folder = root().join("target/bench-broker");
    fs::create_dir_all(&folder)?;
    beside_mosquitto(options, &folder)?;
    over_retained(options)
}

fn beside_mosquitto(options: &Options, folder: &Path) -> Result<()> {
    println!(
        "\n{} clients, memory over {}\n\n| broker | round | connect, s | its processor time, s | connect, by one thread, s | \
         connect to a retained message, s | a message to each, s | KiB a connection |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- |",
        options.clients, options.idle
    );
    let (mut ratios, mut memory) = (Vec::new(), Vec::new());
    for round in 1..=options.rounds {
        let theirs = Figures::measure(&|| mosquitto(folder, ""), options).context("Mosquitto")?;
        theirs.print("Mosquitto", round);
        let ours = Figures::measure(&embedded, options).context("otaru broker")?;
        ours.print("otaru broker", round);
        ratios.push(ours.beside(&theirs));
        memory.push(ours.idle);
    }
    println!();
    for (at, what) in COMPARED.iter().enumerate() {
        let ratio = median(ratios.iter().map(|ratio| ratio[at]));
        println!("- {what}: {ratio:.2} of Mosquitto's time, {}", verdict(ratio, AIM));
    }
    let idle = median(memory.into_iter());
    println!("- an idle connection: {idle:.1} KiB, {}", verdict(idle, AIM_KIB));
    Ok(())
}

/// Measures what connecting costs with few and with many messages retained, whoever they are for.
fn over_retained(options: &Options) -> Result<()> {
    println!("\n| retained messages | round | connect, s |\n| --- | --- | --- |");
    let mut ratios = Vec::new();
    for round in 1..=options.rounds {
        let mut times = [0.0; 2];
        for (time, retained) in times.iter_mut().zip([FEW, MANY]) {
            let broker = embedded()?;
            retain(broker.port, retained, status)?;
            *time = Fleet::connect(broker.port, options.clients, false, THREADS)?.1.as_secs_f64();
            println!("| {retained} | {round} | {time:.2} |");
        }
        ratios.push(times[1] / times[0]);
    }
    let ratio = median(ratios.into_iter());
    println!(
        "\n- connecting at {MANY} retained messages: {ratio:.2} of the time at {FEW}, {}",
        verdict(ratio, AIM)
    );
    Ok(())
}

/// Returns the middle one.
pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut all: Vec<f64> = values.collect();
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or(f64::NAN)
}

fn verdict(value: f64, aim: f64) -> String {
    format!("{} (aim: {aim})", if value <= aim { "met" } else { "MISSED" })
}

/// For this process and those it starts.
///
/// # Errors
/// Returns an error if the system's hard limit is lower.
pub(crate) fn raise_file_limit(clients: usize) -> Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let wanted = u64::try_from(clients)? + 100;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= wanted) {
        return Ok(());
    }
    ensure!(
        limit.maximum.is_none_or(|most| most >= wanted),
        "{clients} clients need {wanted} open files, more than `ulimit -Hn` allows; --clients takes fewer"
    );
    setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limit.maximum })?;
    Ok(())
}

/// Figures of one broker in one round.
struct Figures {
    connected: Duration,
    /// Processor time of the broker until then.
    processor: Duration,
    /// The same as the first by one thread.
    alone: Duration,
    /// The same as the first, each with a retained message.
    retained: Duration,
    arrived: Duration,
    /// Resident memory of its process for each connection, in KiB.
    idle: f64,
}

impl Figures {
    fn measure(start: &dyn Fn() -> Result<Broker>, options: &Options) -> Result<Self> {
        let (connected, processor, arrived) = times(&start()?, options.clients)?;
        Ok(Self {
            connected,
            processor,
            alone: time_alone(&start()?, options.clients)?,
            retained: time_to_retained(&start()?, options.clients)?,
            arrived,
            idle: memory(&start()?, options.idle)?,
        })
    }

    fn print(&self, name: &str, round: usize) {
        println!(
            "| {name} | {round} | {:.2} | {:.2} | {:.2} | {:.2} | {:.3} | {:.1} |",
            self.connected.as_secs_f64(),
            self.processor.as_secs_f64(),
            self.alone.as_secs_f64(),
            self.retained.as_secs_f64(),
            self.arrived.as_secs_f64(),
            self.idle
        );
    }

    /// Returns the parts of another's times.
    fn beside(&self, other: &Self) -> [f64; COMPARED.len()] {
        let part = |ours: Duration, theirs: Duration| ours.as_secs_f64() / theirs.as_secs_f64();
        [
            part(self.connected, other.connected),
            part(self.processor, other.processor),
            part(self.alone, other.alone),
            part(self.retained, other.retained),
            part(self.arrived, other.arrived),
        ]
    }
}

/// Returns the time until all have connected, the broker's processor time until then, and the time until each has got a message.
fn times(broker: &Broker, clients: usize) -> Result<(Duration, Duration, Duration)> {
    let before = broker.processor_time()?;
    let (mut fleet, connected) = Fleet::connect(broker.port, clients, false, THREADS)?;
    let processor = broker.processor_time()?.saturating_sub(before);
    Ok((connected, processor, fleet.message_to_each(broker.port)?))
}

/// Returns the time until all have connected, by one thread.
fn time_alone(broker: &Broker, clients: usize) -> Result<Duration> {
    Ok(Fleet::connect(broker.port, clients, false, 1)?.1)
}

/// Returns the time until all have connected, and got the message that is retained for each.
fn time_to_retained(broker: &Broker, clients: usize) -> Result<Duration> {
    retain(broker.port, clients, update)?;
    Ok(Fleet::connect(broker.port, clients, true, THREADS)?.1)
}

/// Returns the memory that each connection costs, in KiB.
fn memory(broker: &Broker, clients: usize) -> Result<f64> {
    let empty = broker.resident()?;
    let _fleet = Fleet::connect(broker.port, clients, false, THREADS)?;
    Ok(broker.resident()?.saturating_sub(empty) as f64 / clients as f64)
}
