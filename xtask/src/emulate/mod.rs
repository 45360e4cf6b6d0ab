//! `cargo xtask emulate`: the firmware as it goes onto boards, started by ESP-IDF's bootloader on an emulated
//! ESP32-C3, updated over emulated Wi-Fi from a real Mosquitto and a web server.
//!
//! [`machine`] is the emulator, [`peers`] broker, web server and what the device reports, [`browser`] who fills in the
//! set-up page, [`console`] the serial console held against the documentation. The story is told in [`Run`], top to bottom.

mod browser;
mod console;
mod machine;
mod peers;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;

use crate::firmware::{self, Files};
use crate::report::{Outcome, Skip};
use crate::shell::{find, root};
use crate::{chip, tools};
use machine::{Emulator, Machine};
use peers::{Broker, Status, WebServer};

/// Options of `emulate`.
#[derive(Args)]
pub(crate) struct Options {
    /// How often the power is cut
    #[arg(long, value_name = "N", default_value_t = 20)]
    cuts: u32,
    /// What the moments of the cuts are drawn from, to see a run again [default: the time]
    #[arg(long)]
    seed: Option<u64>,
    /// Take the firmware of the last run instead of building it
    #[arg(long)]
    keep: bool,
}

/// Flash offsets of the slots (`firmware/partitions-4mb.csv`).
const SLOTS: [usize; 2] = [firmware::FIRST_SLOT, 0x21_0000];
/// How long a start may take until the broker has the device's report: ample, for an emulator on a busy machine.
const START: Duration = Duration::from_secs(150);
/// How long an update may take, its restart included.
const UPDATE: Duration = Duration::from_secs(400);
/// How long a device that has lost power may say nothing of an update before it is told again.
const FORGOTTEN: Duration = Duration::from_secs(15);
/// Cuts in one update; the device gives up after eleven.
const CUTS_AN_UPDATE: u32 = 5;

/// `cargo xtask emulate`.
pub(crate) fn emulate(options: &Options) -> Result<()> {
    match run(options)? {
        Outcome::Passed => Ok(()),
        Outcome::Skipped(skip) => bail!("{}", skip.reason),
    }
}

/// The same as a check, with the power cut a few times.
pub(crate) fn check(cuts: u32) -> Result<Outcome> {
    run(&Options { cuts, seed: None, keep: false })
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
    fs::create_dir_all(folder.join("www"))?;
    let images = Images::make(&folder, options.keep)?;
    let mut run = Run::begin(&folder, emulator, images)?;
    run.set_up(&folder)?;
    run.first_start()?;
    run.update_and_confirm()?;
    run.crash_and_roll_back()?;
    run.signed_and_compressed()?;
    run.patched()?;
    run.cut_power(options.cuts, options.seed.unwrap_or_else(by_the_clock))?;
    println!(
        "passed after {:.0} s; consoles and flash are in {}",
        start.elapsed().as_secs_f64(),
        folder.display()
    );
    Ok(Outcome::Passed)
}

fn skipped(reason: String, avoidable: bool) -> Result<Outcome> {
    Ok(Outcome::Skipped(Skip { reason, avoidable }))
}

fn by_the_clock() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |time| time.as_secs())
}

/// One firmware: what is fetched, and the image that has to stand in the slot after it.
struct Update {
    file: &'static str,
    version: &'static str,
    image: Vec<u8>,
}

/// The firmwares of the story.
struct Images {
    port: u16,
    not_set_up: PathBuf,
    flash: PathBuf,
    first: Update,
    second: Update,
    crashing: Update,
    release: Update,
    delta: Update,
}

impl Images {
    /// Builds them, or takes those of the last run.
    fn make(folder: &Path, keep: bool) -> Result<Self> {
        let note = folder.join("port");
        let kept = fs::read_to_string(&note).ok().and_then(|text| text.trim().parse().ok()).filter(|_| keep);
        let key = folder.join("key.pem");
        let port = match kept {
            Some(port) => port,
            None => {
                let port = peers::free_port()?;
                peers::build()?;
                peers::otaru(&["keygen", "--force", "--output"], &[&key])?;
                let public = fs::read_to_string(folder.join("key.pub.pem"))?;
                let one = folder.join("credentials.toml");
                fs::write(&one, credentials_toml(&[machine::NETWORK], port, &public))?;
                let two = folder.join("two-networks.toml");
                fs::write(&two, credentials_toml(&["Out of reach", machine::NETWORK], port, &public))?;
                for (version, credentials, behaviour) in [
                    ("0.9.0", None, Some("setup_as_client")),
                    ("1.0.0", Some(&two), None),
                    ("1.1.0", Some(&one), None),
                    ("1.2.0", Some(&one), Some("crash")),
                    ("1.3.0", Some(&one), None),
                ] {
                    let files =
                        firmware::for_emulator(version, credentials.map(PathBuf::as_path), behaviour)?;
                    put(folder, version, &files)?;
                }
                let bin = folder.join("1.3.0.bin");
                let (output, base) = (Path::new("--output"), Path::new("--base"));
                peers::otaru(&["release", "--key"], &[&key, &bin, output, &folder.join("1.3.0.otaru")])?;
                peers::otaru(
                    &["release", "--key"],
                    &[&key, &bin, base, &folder.join("1.1.0.bin"), output, &folder.join("1.3.0-delta.otaru")],
                )?;
                fs::write(&note, port.to_string())?;
                port
            }
        };
        let update = |file, version: &'static str| -> Result<Update> {
            let image =
                fs::read(folder.join(format!("{version}.bin"))).context("no firmware of an earlier run")?;
            fs::copy(folder.join(file), folder.join("www").join(file))?;
            Ok(Update { file, version, image })
        };
        Ok(Self {
            port,
            not_set_up: folder.join("0.9.0-flash.bin"),
            flash: folder.join("1.0.0-flash.bin"),
            first: update("1.0.0.bin", "1.0.0")?,
            second: update("1.1.0.bin", "1.1.0")?,
            crashing: update("1.2.0.bin", "1.2.0")?,
            release: update("1.3.0.otaru", "1.3.0")?,
            delta: update("1.3.0-delta.otaru", "1.3.0")?,
        })
    }
}

fn a_copy(of: &Path, to: &Path) -> Result<PathBuf> {
    fs::copy(of, to).with_context(|| format!("cannot copy {}", of.display()))?;
    Ok(to.to_owned())
}

/// Keeps what is needed of a firmware's files.
fn put(folder: &Path, version: &str, files: &Files) -> Result<()> {
    fs::copy(&files.app, folder.join(format!("{version}.bin")))?;
    fs::copy(&files.flash, folder.join(format!("{version}-flash.bin")))?;
    Ok(())
}

/// Open networks, and this machine as a device in the emulator's sees it.
fn credentials_toml(networks: &[&str], port: u16, key: &str) -> String {
    let networks: String = networks.iter().map(|ssid| format!("[[wifi]]\nssid = \"{ssid}\"\n")).collect();
    format!(
        "{networks}[broker]\nhost = \"{}\"\nport = {port}\n\
         [updates]\nallow_unsigned = true\nkeys = [\"\"\"{key}\"\"\"]\n",
        machine::HOST
    )
}

/// The story.
struct Run {
    // In this order they end: the device first.
    machine: Machine,
    web: WebServer,
    broker: Broker,
    images: Images,
    /// How long an update took until it was confirmed.
    took: Duration,
}

impl Run {
    fn begin(folder: &Path, emulator: Emulator, images: Images) -> Result<Self> {
        let broker = Broker::start(folder, images.port)?;
        let web = WebServer::start(folder)?;
        let flash = a_copy(&images.flash, &folder.join("flash.bin"))?;
        let machine = Machine::new(emulator, flash, folder.join("console.log"))?;
        Ok(Self { machine, web, broker, images, took: UPDATE })
    }

    /// A device that was told nothing is told on its page, keeps it, and uses it from then on.
    fn set_up(&mut self, folder: &Path) -> Result<()> {
        const NAME: &str = "told-by-phone";
        let start = Instant::now();
        let port = peers::free_port()?;
        let first_device = self.machine.flash().to_owned();
        let flash = a_copy(&self.images.not_set_up, &folder.join("set-up-flash.bin"))?;
        self.machine.with_flash(flash, Some(port))?;
        self.machine.power_on()?;
        let page = browser::page(port)?;
        ensure!(page.contains("<form") && page.contains("name=\"ssid\""), "the set-up page is {page}");
        let broker = self.images.port.to_string();
        let fields = [("ssid", machine::NETWORK), ("host", machine::HOST), ("port", &broker), ("name", NAME)];
        let refused = browser::send(port, &fields[..1])?;
        ensure!(!refused.contains("Kept."), "a form without a broker is taken: {refused}");
        let taken = browser::send(port, &fields)?;
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

    fn first_start(&mut self) -> Result<()> {
        let start = Instant::now();
        self.machine.power_on()?;
        let status =
            self.wait(START, "the first start", |status| status.version == self.images.first.version)?;
        ensure!(status.boot == "power_on", "the first start was {:?}", status.boot);
        said(start, &format!("{} is online with version {}", status.device, status.version));
        Ok(())
    }

    /// Starts the emulator anew, so that each part of the story begins with a power-on.
    fn cold_start(&mut self) -> Result<()> {
        self.machine.cut()?;
        self.broker.forget()?;
        self.machine.mark();
        self.machine.power_on()?;
        self.wait(START, "a cold start", |status| !status.version.is_empty())?;
        Ok(())
    }

    fn update_and_confirm(&mut self) -> Result<()> {
        let start = Instant::now();
        self.publish(self.images.second.file)?;
        let status = self.confirmed(&self.images.second)?;
        ensure!(status.boot == "software", "the update's start was {:?}", status.boot);
        ensure!(self.broker.progress() > 3, "progress was reported {} times", self.broker.progress());
        self.took = start.elapsed();
        said(
            start,
            &format!("updated to {} and confirmed, {} bytes", status.version, self.images.second.image.len()),
        );
        self.console("update")
    }

    fn crash_and_roll_back(&mut self) -> Result<()> {
        self.cold_start()?;
        let start = Instant::now();
        self.publish(self.images.crashing.file)?;
        let status = self.wait(UPDATE, "the roll back", |status| status.state == "rolled_back")?;
        ensure!(status.version == self.images.second.version, "version {} came back", status.version);
        ensure!(status.error_code == "panic", "the roll back's error is {:?}", status.error_code);
        ensure!(
            status.error_detail.contains("crashing on purpose"),
            "the panic's message is not in {:?}",
            status.error_detail
        );
        ensure!(status.failed_version == self.images.crashing.version, "{:?} failed", status.failed_version);
        said(start, &format!("{} rolled back: {}", status.failed_version, status.error_detail));
        self.console("roll-back")
    }

    fn signed_and_compressed(&mut self) -> Result<()> {
        self.cold_start()?;
        let start = Instant::now();
        self.publish(self.images.release.file)?;
        let status = self.confirmed(&self.images.release)?;
        let bytes = fs::metadata(root().join("target/emulate/www").join(self.images.release.file))?.len();
        let of = self.images.release.image.len();
        said(start, &format!("updated to {} from a signed release, {bytes} bytes for {of}", status.version));
        Ok(())
    }

    /// Goes back to the patch's base, and on again by the patch. The way back is by another version, or the patch's image
    /// would stand in the other slot still.
    fn patched(&mut self) -> Result<()> {
        for update in [&self.images.first, &self.images.second] {
            self.publish(update.file)?;
            self.confirmed(update)?;
        }
        self.cold_start()?;
        let start = Instant::now();
        self.publish(self.images.delta.file)?;
        let status = self.confirmed(&self.images.delta)?;
        let console = self.machine.console_since_mark()?;
        let taken = console.contains("release: a patch of") && !console.contains("release: the patch");
        ensure!(taken, "the patch was not taken, or of no use:\n{console}");
        said(start, &format!("updated to {} by a patch", status.version));
        Ok(())
    }

    /// Cuts the power at random moments of updates.
    fn cut_power(&mut self, cuts: u32, seed: u64) -> Result<()> {
        println!("power cuts: seed {seed}");
        let mut random = Random(seed | 1);
        let (mut done, mut updates, mut told_again) = (0, 0, 0);
        while done < cuts {
            self.cold_start()?;
            // Three in turn, so that what is wanted never stands in the other slot already.
            let update = match updates % 3 {
                0 => &self.images.first,
                1 => &self.images.second,
                _ => &self.images.delta,
            };
            let start = Instant::now();
            let mut here = 0;
            self.publish(update.file)?;
            while done < cuts && here < CUTS_AN_UPDATE {
                let moment = self.took.mul_f64(random.unit());
                if self.broker.wait(moment, |status| is_confirmed(status, update))?.is_some() {
                    break;
                }
                let state = self.broker.last_state();
                self.machine.cut()?;
                (done, here) = (done + 1, here + 1);
                self.broker.forget()?;
                self.machine.power_on()?;
                let back =
                    self.wait(START, "the start after a power cut", |status| !status.version.is_empty())?;
                println!(
                    "  cut {done}/{cuts} {:.1} s into it, while {state}; back with {} ({})",
                    moment.as_secs_f64(),
                    back.version,
                    back.state
                );
                let goes_on = |status: &Status| status.state != "idle" || status.version == update.version;
                if self.broker.wait_from(&back, FORGOTTEN, goes_on)?.is_none() {
                    self.publish(update.file)?;
                    told_again += 1;
                }
            }
            self.settled(update)?;
            updates += 1;
            said(start, &format!("updated to {} after {here} cuts", update.version));
        }
        println!(
            "{done} power cuts in {updates} updates; {told_again} times the device had to be told again"
        );
        Ok(())
    }

    /// Waits until an image runs and is confirmed, then looks at the flash.
    fn confirmed(&self, update: &Update) -> Result<Status> {
        let status = self.wait(UPDATE, "the confirmation", |status| is_confirmed(status, update))?;
        self.stands(update, &status)?;
        Ok(status)
    }

    /// The same after power cuts, which may have come right after the confirmation.
    fn settled(&self, update: &Update) -> Result<()> {
        let status = match self.broker.last().filter(|status| is_confirmed(status, update)) {
            Some(status) => status,
            None => self.wait(UPDATE, "the end of the update", |status| is_confirmed(status, update))?,
        };
        self.stands(update, &status)
    }

    /// Whether the slot holds the image byte for byte, and the report names it.
    fn stands(&self, update: &Update, status: &Status) -> Result<()> {
        let flash = fs::read(self.machine.flash())?;
        let at = SLOTS.get(status.slot).with_context(|| format!("slot {}", status.slot))?;
        let slot = flash.get(*at..at + update.image.len()).unwrap_or_default();
        ensure!(
            slot == update.image,
            "slot {} does not hold {} as it was built",
            status.slot,
            update.version
        );
        let digest = peers::sha256(&update.image);
        ensure!(status.image == digest, "the device reports image {}, it was {digest}", status.image);
        Ok(())
    }

    fn publish(&self, file: &str) -> Result<()> {
        self.broker.publish(&format!("http://{}:{}/{file}", machine::HOST, self.web.port))
    }

    fn wait(&self, limit: Duration, what: &str, wanted: impl Fn(&Status) -> bool) -> Result<Status> {
        match self.broker.wait(limit, wanted)? {
            Some(status) => Ok(status),
            None => bail!(
                "{what}: nothing after {} s. The last report: {}. The console's end:\n{}",
                limit.as_secs(),
                self.broker.last().map_or_else(|| "none".to_owned(), |status| status.text),
                self.machine.console_end()
            ),
        }
    }

    fn console(&self, part: &str) -> Result<()> {
        console::compare(part, &self.machine.console_since_mark()?)
    }
}

fn is_confirmed(status: &Status, update: &Update) -> bool {
    status.version == update.version && status.confirmed
}

fn said(since: Instant, what: &str) {
    println!("{:>6.1} s  {what}", since.elapsed().as_secs_f64());
}

/// Marsaglia's xorshift64: a few moments that can be had again.
struct Random(u64);

impl Random {
    /// From 0 to 1.
    fn unit(&mut self) -> f64 {
        for shift in [13, -7, 17_i32] {
            self.0 ^= if shift > 0 { self.0 << shift } else { self.0 >> -shift };
        }
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }
}
