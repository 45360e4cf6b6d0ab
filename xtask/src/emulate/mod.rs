//! `cargo xtask emulate`: the firmware as it goes onto boards, started by ESP-IDF's bootloader on an emulated
//! ESP32-C3, updated over emulated Wi-Fi from a real Mosquitto and a web server.
//!
//! [`machine`] is the emulator, [`qmp`] its own console, [`peers`] broker, web server and what the device reports, [`browser`]
//! who fills in the set-up page, [`console`] the serial console held against the documentation, [`images`] the firmwares.
//! The story is told in [`Run`], scene by scene in the order of [`plain`]: [`setup`], [`updates`], [`network`], [`faults`],
//! [`cuts`]; [`memory`] looks at stack and heap meanwhile. [`tls`] tells another one, of firmware that speaks TLS.

mod browser;
mod console;
mod cuts;
mod faults;
mod images;
mod limits;
mod machine;
mod memory;
mod network;
mod peers;
mod qmp;
mod setup;
mod story;
mod tls;
mod updates;

use std::fs;
use std::path::Path;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Result, bail, ensure};
use clap::{Args, ValueEnum};

use crate::report::{Outcome, Skip};
use crate::shell::{find, root};
use crate::{chip, firmware, tools};
use images::Images;
use machine::Emulator;
use story::{Run, Shown};

/// Options of `emulate`.
#[derive(Args)]
pub(crate) struct Options {
    /// Number of power cuts
    #[arg(long, value_name = "N", default_value_t = 20)]
    cuts: u32,
    /// Seed of the moments of the cuts, to see a run again [default: the time]
    #[arg(long)]
    seed: Option<u64>,
    /// Take the firmware of the last run instead of building it
    #[arg(long)]
    keep: bool,
    /// One of the two stories instead of both
    #[arg(long, value_enum)]
    only: Option<Story>,
}

/// Facts that are told of the firmware.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Story {
    /// Without TLS, from its set-up to power cuts
    Plain,
    /// Over TLS
    Tls,
}

/// Scenes that stand alone: one that fails does not hide the others.
const SCENES: [(&str, Scene); 6] = [
    ("Wi-Fi that goes and comes", Run::wifi_goes_and_comes),
    ("Wi-Fi away in an update", Run::wifi_goes_in_an_update),
    ("a broker away in a trial", Run::broker_away_in_a_trial),
    ("crashes in an update", Run::crashes_in_an_update),
    ("a health check that blocks", Run::check_that_blocks),
    ("a program that blocks", Run::program_that_blocks),
];
type Scene = fn(&mut Run) -> Result<Shown>;

/// `cargo xtask emulate`.
pub(crate) fn emulate(options: &Options) -> Result<()> {
    match run(options)? {
        Outcome::Passed => Ok(()),
        Outcome::Skipped(skip) => bail!("{}", skip.reason),
    }
}

/// The same as a check, with the power cut a few times.
pub(crate) fn check(cuts: u32) -> Result<Outcome> {
    run(&Options { cuts, seed: None, keep: false, only: None })
}

fn run(options: &Options) -> Result<Outcome> {
    let Some(emulator) = Emulator::find() else {
        return skipped(Emulator::remedy(), false);
    };
    for program in ["mosquitto", "mosquitto_pub", "mosquitto_sub"] {
        if find(program).is_none() {
            return skipped(format!("no {program}: {}", tools::peers_remedy()), true);
        }
    }
    if !chip::can_compile(firmware::Chip::Esp32c3.target()) {
        return skipped(chip::remedy(firmware::Chip::Esp32c3.target()), true);
    }
    let start = Instant::now();
    let folder = root().join("target/emulate");
    let mut not_shown = Vec::new();
    if options.only != Some(Story::Tls) {
        not_shown.extend(plain(options, &folder, emulator.clone())?);
    }
    if options.only != Some(Story::Plain)
        && let Shown::No(why) = tls::play(&folder.join("tls"), emulator, options.keep)?
    {
        println!("!! NOT SHOWN: TLS: {why}");
        not_shown.push("TLS");
    }
    println!(
        "passed after {:.0} s; consoles and flash are in {}",
        start.elapsed().as_secs_f64(),
        folder.display()
    );
    if !not_shown.is_empty() {
        println!("!! NOT SHOWN, so not tested: {}", not_shown.join(", "));
    }
    Ok(Outcome::Passed)
}

/// Tells the story without TLS; returns the scenes that this emulator cannot play.
fn plain(options: &Options, folder: &Path, emulator: Emulator) -> Result<Vec<&'static str>> {
    fs::create_dir_all(folder.join("www"))?;
    let images = Images::make(folder, options.keep)?;
    let mut run = Run::begin(folder, emulator, images)?;
    run.set_up()?;
    run.first_start()?;
    run.update_and_confirm()?;
    run.crash_and_roll_back()?;
    run.signed_and_compressed()?;
    run.patched()?;
    let (mut failed, mut not_shown) = (Vec::new(), Vec::new());
    for (name, scene) in SCENES {
        match scene(&mut run) {
            Ok(Shown::Yes) => {}
            Ok(Shown::No(why)) => {
                println!("!! NOT SHOWN: {name}: {why}");
                not_shown.push(name);
                run.back_to_the_first()?;
            }
            Err(error) => {
                println!("FAILED: {name}: {error:#}");
                failed.push(name);
                run.back_to_the_first()?;
            }
        }
    }
    run.cut_power(options.cuts, options.seed.unwrap_or_else(by_the_clock))?;
    run.judge_memory()?;
    ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    Ok(not_shown)
}

fn skipped(reason: String, avoidable: bool) -> Result<Outcome> {
    Ok(Outcome::Skipped(Skip { reason, avoidable }))
}

fn by_the_clock() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |time| time.as_secs())
}
