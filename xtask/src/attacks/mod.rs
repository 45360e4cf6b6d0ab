//! `cargo xtask bench attacks`: what others notice of a server that is attacked, and what the server keeps of it.
//!
//! The real program, and around it: somebody who means well and asks 20 times a second, and one attack after the other, twice each.
//! Every figure stands beside the same server's of a moment before, when nobody attacked it. All of it is on this machine: whoever
//! attacks takes processor time from the server, so that ratios are higher here than they would be elsewhere.
//!
//! [`scene`] is the order of events in one attack, [`honest`] who means well, [`crowd`] and [`reporter`] are the attacks, [`process`]
//! what the server has of the machine, [`proxy`] an nginx in front, [`warm`] what the machine is spared.

mod crowd;
mod honest;
mod process;
mod proxy;
mod reporter;
mod scene;
mod warm;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use clap::{Args, ValueEnum};
use sha2::{Digest as _, Sha256};

use self::proxy::Nginx;
use self::scene::Outcome;
use crate::broker::raise_file_limit;
use crate::serve::{Server, free_port};
use crate::shell::{cargo, find, program, root, run};

/// Options of `bench attacks`.
#[derive(Args)]
pub(crate) struct Options {
    /// Attack in this way only; may be given several times
    #[arg(long, value_enum)]
    attack: Vec<Attack>,
    /// On this way only
    #[arg(long, value_enum)]
    way: Option<Way>,
    /// Seconds of each of an attack's two rounds
    #[arg(long, default_value_t = 40)]
    seconds: u64,
    /// Seconds for which the server is measured before, with nobody attacking
    #[arg(long, default_value_t = 20)]
    idle: u64,
    /// Seconds after the second round until the memory is looked at
    #[arg(long, default_value_t = 60)]
    rest: u64,
    /// Attack this program, instead of building it
    #[arg(long, value_name = "OTARU")]
    program: Option<PathBuf>,
    /// Connections that attack; each takes a file descriptor here, and one in the server
    #[arg(long, default_value_t = 5_000)]
    connections: usize,
}

/// How a server is attacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Attack {
    /// Connections from one address that ask for 20 large files each and read nothing
    SilentReaders,
    /// The same from many addresses, as many as the server takes and more
    ManySilentReaders,
    /// Connections from many addresses that send half of a request's head
    HalfHeads,
    /// Connections from many addresses that ask once and stay
    Idlers,
    /// A device that sends reports of 15 KB over MQTT without pause
    LongReports,
    /// A device that sends reports over MQTT without pause
    Reports,
    /// A device that sends reports over HTTP without pause, long ones among them
    HttpReports,
}

impl Attack {
    fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    fn is_over_mqtt(self) -> bool {
        matches!(self, Self::LongReports | Self::Reports)
    }
}

/// How requests come to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Way {
    /// Right away
    Plain,
    /// Through nginx with the sample configuration
    Nginx,
}

/// A server that is attacked, and everything that is asked of it.
struct Target {
    server: Server,
    /// Where requests go: the server, or nginx.
    host: String,
    /// What paths begin with there.
    prefix: &'static str,
    log: PathBuf,
    firmware: String,
    _nginx: Option<Nginx>,
}

/// Attacks, and says which aims were met.
///
/// # Errors
/// When one was not.
pub(crate) fn bench(options: &Options) -> Result<()> {
    raise_file_limit(options.connections)?;
    let otaru = match &options.program {
        Some(otaru) => otaru.clone(),
        None => {
            run(&mut cargo(&["build", "--quiet", "--release", "--package", "otaru"]))?;
            root().join("target/release/otaru")
        }
    };
    let mut outcomes = Vec::new();
    let mut skipped = false;
    for way in [Way::Plain, Way::Nginx] {
        if options.way.is_some_and(|only| only != way) {
            continue;
        }
        if way == Way::Nginx && find("nginx").is_none() {
            skipped = true;
            continue;
        }
        let target = Target::start(way, &otaru)?;
        for attack in Attack::value_variants() {
            let wanted = options.attack.is_empty() || options.attack.contains(attack);
            // What comes over MQTT does not come through nginx.
            if wanted && !(way == Way::Nginx && attack.is_over_mqtt()) {
                outcomes.push(scene::play(&target, *attack, way, options)?);
            }
        }
    }
    verdict(&outcomes, skipped)
}

fn verdict(outcomes: &[Outcome], skipped: bool) -> Result<()> {
    println!("\n{}", Outcome::head());
    outcomes.iter().for_each(|outcome| println!("{outcome}"));
    println!();
    if skipped {
        println!(
            "SKIPPED: everything through nginx: nginx is missing; on Debian: apt-get install nginx-light"
        );
    }
    let missed: Vec<String> = outcomes.iter().flat_map(Outcome::missed).collect();
    match missed.as_slice() {
        [] => println!("every aim was met: {}", Outcome::AIMS),
        missed => {
            println!("the aims: {}", Outcome::AIMS);
            missed.iter().for_each(|line| println!("MISSED: {line}"));
            bail!("{} aims were missed", missed.len());
        }
    }
    Ok(())
}

impl Target {
    fn start(way: Way, otaru: &Path) -> Result<Self> {
        let folder = root().join("target/bench-attacks").join(format!("{way:?}").to_lowercase());
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder)?;
        let log = folder.join("log.txt");
        let (people, devices) = (free_port()?, free_port()?);
        let url = format!("http://127.0.0.1:{people}/ota");
        let behind = ["--public-url", &url, "--trusted-proxy", "127.0.0.1"];
        let options: &[&str] = if way == Way::Nginx { &behind } else { &[] };
        let server =
            Server::start_with(otaru, &folder.join("data"), options, fs::File::create(&log)?.into())?;
        let own = server.url.trim_start_matches("http://").to_owned();
        let (host, prefix, nginx) = match way {
            Way::Plain => (own, "", None),
            Way::Nginx => {
                let nginx = Nginx::start(&folder, people, devices, &own)?;
                (format!("127.0.0.1:{people}"), "/ota", Some(nginx))
            }
        };
        let file = folder.join("lamp-1.0.0.bin");
        let mut make: Command = program(otaru);
        make.args(["image", "make", "--chip", "esp32c3", "--project", "lamp", "--version", "1.0.0"]);
        make.args(["--size", "1M", "-o"]).arg(&file).stdout(std::process::Stdio::null());
        ensure!(make.status()?.success(), "cannot make firmware");
        server.user(&["release", "upload", file.to_str().context("a path that is no text")?])?;
        let digest: String =
            Sha256::digest(fs::read(&file)?).iter().map(|byte| format!("{byte:02x}")).collect();
        let firmware = format!("{prefix}/files/{digest}/lamp.bin");
        Ok(Self { server, host, prefix, log, firmware, _nginx: nginx })
    }
}

/// A time in milliseconds, for people.
fn ms(time: Duration) -> String {
    format!("{:.1}", time.as_secs_f64() * 1_000.0)
}
