//! `otaru sim`: virtual devices, from one to thousands, each with its flash in a file or in memory.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::{Context as _, bail};
use otaru_device::PublicKey;
use otaru_format::chip::Chip;
use otaru_server::access::fleet_keys::is_fleet_key;
use otaru_sim::bootloader::BootloaderKind;
use otaru_sim::device::{ChipFacts, Event};
use serde_json::json;
use tokio::task::LocalSet;

use crate::firmware_file::Firmware;
use crate::fleet::changes::Teller;
use crate::fleet::{Change, Fleet};
use crate::options::{self, BrokerArgs};
use crate::output::{Outcome, Output};
use crate::virtual_board::{self, Board, BoardSettings, Dump, dump_path, happened, provisioned, slot_name};
use crate::{logging, release_file, signals, trust, ui};
use otaru_broker::client::{Incoming, Mqtt};

const EXAMPLES: &str = "\
Examples:
  otaru image make --chip esp32c3 --project lamp --version 1.0.0 -o lamp-1.0.0.bin
  otaru sim --devices 3 --dir boards --firmware lamp-1.0.0.bin
  otaru sim --devices 200 --firmware lamp-1.0.0.bin --speed 10
  otaru sim --dir boards --key release.pub.pem      signed releases only
  otaru sim --name lamp-7 --firmware lamp-1.0.0.bin --broker mqtts://ota.example.com:8883 \
    --ca ca.pem --client-cert lamp-7.pem          with what `otaru device-cert` made

Each device runs the agent that runs on the chip, over a flash that takes its time and wears. With
--dir it is kept in DIR/<name>.bin: start again and the device goes on where it was. The dump is what
`esptool read_flash 0 0x400000` would give. Without --dir it is in memory and forgotten at the end.";

/// A bootloader's flavour.
#[derive(clap::ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
enum Bootloader {
    /// Without roll back, as espflash ships it
    Plain,
    /// With CONFIG_BOOTLOADER_APP_ROLLBACK_ENABLE
    Rollback,
}

/// Run virtual devices
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    broker: BrokerArgs,
    /// Number of devices
    #[arg(long, short = 'n', value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=20_000))]
    devices: u16,
    /// Folder of their flash contents; without one they are in memory
    #[arg(long, required_unless_present = "firmware")]
    dir: Option<PathBuf>,
    /// Firmware of a new device; not needed for devices that are there already
    #[arg(long, value_name = "FILE")]
    firmware: Option<PathBuf>,
    /// The chip; the firmware's, if not given
    #[arg(long)]
    chip: Option<Chip>,
    /// The chip's revision, as 100 times the major plus the minor number; it refuses firmware for others
    #[arg(long, value_name = "N")]
    chip_revision: Option<u16>,
    /// The size of its flash, such as 4M; it refuses firmware for a larger one. Otherwise it does not know the size
    /// and compares nothing
    #[arg(long, value_name = "BYTES", value_parser = options::bytes)]
    flash_size: Option<usize>,
    /// The product that firmware must be for, where that is not the name of the first firmware
    #[arg(long, value_name = "NAME")]
    product: Option<String>,
    /// Speed of flash and waits; 1 is real time
    #[arg(long, value_name = "X", default_value = "1", value_parser = options::speed)]
    speed: f64,
    /// The bootloader's flavour
    #[arg(long, value_enum, default_value_t = Bootloader::Plain)]
    bootloader: Bootloader,
    /// Take releases signed with this key; may be given several times. Without any, unsigned firmware is taken
    #[arg(long, value_name = "PUB.pem")]
    key: Vec<PathBuf>,
    /// Take unsigned firmware in spite of --key
    #[arg(long, requires = "key")]
    allow_unsigned: bool,
    /// Fetch firmware from this host only, such as files.example.org, *.example.org or 192.0.2.1:8080; may be given
    /// several times. Without any, every host is allowed
    #[arg(long, value_name = "HOST", value_parser = options::allowed_host)]
    host: Vec<String>,
    /// Tell only what happens to them here, not what they report: for brokers where their login may hear nothing but
    /// what is theirs. So it is with a fleet key: whoever watched with it would be registered as one more device
    #[arg(long)]
    no_watch: bool,
    /// The address of this machine that they connect from: a broker may allow only so many connections from one
    #[arg(long, value_name = "IP")]
    source: Option<std::net::IpAddr>,
    /// Prefix of their names; a number follows
    #[arg(long, value_name = "TEXT", default_value = "sim-")]
    name_prefix: String,
    /// Name of the one device, as a certificate or a password of its own wants it
    #[arg(long, value_name = "NAME", conflicts_with_all = ["name_prefix", "devices"])]
    name: Option<String>,
}

impl Args {
    /// Names of the devices.
    fn names(&self) -> Vec<String> {
        match &self.name {
            Some(name) => vec![name.clone()],
            None => (1..=self.devices).map(|number| format!("{}{number:04}", self.name_prefix)).collect(),
        }
    }

    /// Whether a device that reports is one of these.
    fn is_ours(&self, device: &str) -> bool {
        match &self.name {
            Some(name) => device == name,
            None => device.starts_with(&self.name_prefix),
        }
    }
}

pub(crate) async fn run(args: Args, output: Output) -> anyhow::Result<Outcome> {
    let broker = args.broker.url()?;
    check_name("--name-prefix", &args.name_prefix)?;
    args.name.iter().try_for_each(|name| check_name("--name", name))?;
    let firmware = args.firmware.as_deref().map(Firmware::read).transpose()?;
    check_chip(firmware.as_ref(), args.chip)?;
    let facts = ChipFacts {
        revision: args.chip_revision,
        flash_size: args.flash_size.map(|size| u32::try_from(size).unwrap_or(u32::MAX)),
    };
    for doubt in firmware.iter().flat_map(|firmware| misfits(firmware, facts)) {
        ui::warn(&doubt);
    }
    firmware.iter().flat_map(Firmware::remarks).for_each(|remark| ui::warn(&remark));
    // Held until the end, however that comes.
    let _lock = args.dir.as_deref().map(lock).transpose()?;
    let wanted = u64::from(args.devices) * 3 + 256;
    if !options::raise_file_limit(wanted) {
        let devices = args.devices;
        ui::warn(&format!(
            "{} may need {wanted} open files; raise the limit with `ulimit -n {wanted}`",
            ui::many(devices.into(), "device")
        ));
    }
    let bench = Rc::new(BoardSettings {
        broker: broker.clone(),
        base: args.broker.base.clone(),
        speed: args.speed,
        bootloader: match args.bootloader {
            Bootloader::Plain => BootloaderKind::Plain,
            Bootloader::Rollback => BootloaderKind::Rollback,
        },
        keys: release_file::public_keys(&args.key)?
            .iter()
            .map(|key| PublicKey::from_bytes(key.to_bytes()))
            .collect(),
        allow_unsigned: args.allow_unsigned || args.key.is_empty(),
        facts,
        product: args.product.clone(),
        hosts: args.host.clone(),
        source: args.source,
        tls: virtual_board::tls(),
    });
    let has_fleet_key = broker.login().is_some_and(|login| is_fleet_key(login.password.expose()));
    // Such a login is the device's: under another client id it is refused.
    let has_own = args.name.as_ref().is_some_and(|name| {
        trust::has_identity() || broker.login().is_some_and(|login| login.username == *name)
    });
    let observer = match args.no_watch || has_fleet_key || has_own {
        true => None,
        false => Some(Mqtt::connect(&broker, "sim").await?),
    };
    if observer.is_none() {
        // What they report would say that they are not let in.
        logging::warnings();
    }
    let left = args.dir.as_deref().map(|dir| Left::of(dir, &args)).unwrap_or_default();
    let boards = boards(&args, &bench, firmware.as_ref(), output)?;
    if !output.json {
        let flash = args.dir.as_deref().map_or_else(|| "memory".into(), |dir| dir.display().to_string());
        let text = format!(
            "{} at {broker}, flash in {flash}, speed {}",
            ui::many(boards.len() as u64, "virtual device"),
            args.speed
        );
        ui::line(&text);
        let why = has_fleet_key.then_some("a fleet key").or(has_own.then_some("a device's own login"));
        if let Some(why) = why.filter(|_| !args.no_watch) {
            ui::line(&format!("  With {why} nobody hears here what is reported: see `otaru devices`."));
        }
        left.words(&args).iter().for_each(|line| ui::line(line));
    }
    let local = LocalSet::new();
    for board in boards {
        let bench = Rc::clone(&bench);
        local.spawn_local(async move {
            board.live(&bench, |event| tell(&board.name, &event, output)).await;
        });
    }
    let watched = watch(observer, &args, output);
    local
        .run_until(async {
            tokio::select! {
                () = signals::stop() => Ok(Outcome::Good),
                error = watched => Err(error),
            }
        })
        .await
}

fn check_name(option: &str, name: &str) -> anyhow::Result<()> {
    let good = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.len() > 40 || !name.chars().all(good) || option == "--name" && name.is_empty() {
        bail!("{option} has at most 40 letters, digits, '-', '_' and '.'");
    }
    Ok(())
}

fn check_chip(firmware: Option<&Firmware>, chip: Option<Chip>) -> anyhow::Result<()> {
    let (Some(firmware), Some(chip)) = (firmware, chip) else { return Ok(()) };
    if firmware.chip() != Some(chip) {
        bail!(
            "{} is for {}, but --chip says {chip}; leave --chip out to take the firmware's",
            firmware.path.display(),
            firmware.chip_name()
        );
    }
    Ok(())
}

/// Why a chip with these facts would not start its first firmware. Devices run it all the same; they judge what comes later.
fn misfits(firmware: &Firmware, facts: ChipFacts) -> impl Iterator<Item = String> {
    let (header, path) = (firmware.summary.header, firmware.path.display().to_string());
    let revision = facts.revision.filter(|revision| !header.admits_revision(*revision));
    let flash = facts.flash_size.zip(header.flash_size()).filter(|(own, needed)| needed > own);
    let on_revision = revision.map(|revision| {
        format!("{path} is for other chip revisions than v{}.{}, which --chip-revision says; a board would not start it", revision / 100, revision % 100)
    });
    let on_flash = flash.map(|(own, needed)| {
        format!(
            "{path} is for {} of flash, and --flash-size says {}; a board might not start it",
            ui::size(needed.into()),
            ui::size(own.into())
        )
    });
    on_revision.into_iter().chain(on_flash)
}

/// Devices that an earlier simulator left in a folder.
#[derive(Default)]
struct Left {
    /// Number of devices that are started again.
    started: u64,
    /// Number of devices with names of this kind that are not.
    others: u64,
}

impl Left {
    fn of(dir: &Path, args: &Args) -> Self {
        if let Some(name) = &args.name {
            return Self { started: dump_path(dir, name).exists().into(), others: 0 };
        }
        let names = std::fs::read_dir(dir).into_iter().flatten().flatten().filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            name.strip_prefix(&args.name_prefix)?.strip_suffix(".bin")?.parse::<u64>().ok()
        });
        let (started, others): (Vec<u64>, Vec<u64>) =
            names.partition(|number| (1..=u64::from(args.devices)).contains(number));
        Self { started: started.len() as u64, others: others.len() as u64 }
    }

    fn words(&self, args: &Args) -> Vec<String> {
        let go_on = (self.started > 0 && args.firmware.is_some()).then(|| {
            let who = ui::many(self.started, "device");
            format!("  {who} from before: what is in the flash goes on running; --firmware is for new ones")
        });
        let more = (self.others > 0).then(|| {
            let (who, all) = (ui::many(self.others, "other device"), self.others + u64::from(args.devices));
            format!("  {who} from before not started; `--devices {all}` starts all")
        });
        go_on.into_iter().chain(more).collect()
    }
}

/// Keeps a second simulator from the same flash: two would write to one file.
fn lock(dir: &Path) -> anyhow::Result<File> {
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make the folder {}", dir.display()))?;
    let path = dir.join(".lock");
    let failed = || format!("cannot lock {}", path.display());
    let lock = File::options().write(true).create(true).truncate(false).open(&path).with_context(failed)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => bail!(
            "another `otaru sim` runs the devices in {}; stop it first, or give this one another folder with --dir",
            dir.display()
        ),
        Err(TryLockError::Error(error)) => Err(error).with_context(failed),
    }
}

fn boards(
    args: &Args,
    bench: &BoardSettings,
    firmware: Option<&Firmware>,
    output: Output,
) -> anyhow::Result<Vec<Board>> {
    let names = args.names().into_iter();
    let Some(dir) = &args.dir else {
        let firmware = firmware.context("--firmware says what the devices run")?;
        let Some(chip) = args.chip.or(firmware.chip()) else { bail!("which chip are they? Give --chip") };
        let contents = provisioned(firmware.kept())?;
        return Ok(names.map(|name| Board::in_memory(bench, &name, chip, Rc::clone(&contents))).collect());
    };
    names.map(|name| open(args, dir, bench, &name, firmware, output)).collect()
}

fn open(
    args: &Args,
    dir: &Path,
    bench: &BoardSettings,
    name: &str,
    firmware: Option<&Firmware>,
    output: Output,
) -> anyhow::Result<Board> {
    let path = dump_path(dir, name);
    // A device that is there already keeps its chip, unless one is asked for.
    let kept = path.exists().then(|| Dump::read(&path)).transpose()?.and_then(|dump| dump.chip());
    let Some(chip) = args.chip.or(kept).or_else(|| firmware.and_then(Firmware::chip)) else {
        bail!("which chip is {name}? Give --firmware FILE or --chip");
    };
    let (board, new) = Board::open(bench, dir, name, chip, firmware.map(Firmware::kept))?;
    if new && output.json {
        ui::event(json!({"event": "provisioned", "device": name, "chip": chip.name(), "flash": path}));
    }
    Ok(board)
}

fn tell(name: &str, event: &Event, output: Output) {
    if output.json {
        ui::event(match event {
            Event::Booted { address, version, reason } => json!({
                "event": "boot", "device": name, "slot": slot_name(*address), "version": version,
                "reason": reason.as_str(),
            }),
            Event::NothingBootable => json!({"event": "bricked", "device": name}),
            Event::PowerLost => json!({"event": "power_lost", "device": name}),
        });
        return;
    }
    let text = format!("{name:<12}  {}", happened(event));
    match event {
        Event::NothingBootable => ui::line(&console::style(text).white().on_red().bold().to_string()),
        _ => ui::line(&text),
    }
}

/// Tells what our devices report. Ends only with an error.
async fn watch(mqtt: Option<Mqtt>, args: &Args, output: Output) -> anyhow::Error {
    let Some(mut mqtt) = mqtt else { return std::future::pending().await };
    let mut fleet = Fleet::new(&args.broker.base);
    let mut teller = Teller::new(output);
    for filter in fleet.filters() {
        if let Err(error) = mqtt.subscribe(&filter).await {
            return anyhow::Error::from(error).context("cannot watch the devices; --no-watch goes without");
        }
    }
    loop {
        match mqtt.next().await {
            // What the broker kept is from an earlier run.
            Incoming::Message(message) if message.retained => {}
            Incoming::Message(message) => {
                let change = fleet.take(&message.topic, &message.payload);
                if let Some(Change::Report(name) | Change::Unreadable(name, _)) = &change
                    && args.is_ours(name)
                {
                    change.iter().for_each(|change| teller.tell(&fleet, change));
                }
            }
            Incoming::Lost(why) if !output.json => ui::line(&format!("broker lost: {why}; trying again")),
            Incoming::Back if !output.json => ui::line("broker back"),
            // A report that is missed here is seen with the next one.
            Incoming::Lost(_) | Incoming::Back | Incoming::Missed(_) => {}
        }
    }
}
