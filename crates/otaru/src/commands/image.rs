//! `otaru image`: look into a firmware file, or make a synthetic one for virtual devices.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use otaru_format::chip::Chip;
use otaru_format::name::is_unruly;
use otaru_sim::firmware::{Behaviour, FirmwareSpec, Needs};
use serde_json::json;

use crate::firmware_file::Firmware;
use crate::output::{Outcome, Output};
use crate::{options, ui};

const INFO_EXAMPLES: &str = "\
Examples:
  otaru image info firmware.bin
  otaru image info --json firmware.bin | jq -r .sha256

Exit code 0 means that a bootloader would start this image.";

const MAKE_EXAMPLES: &str = "\
Examples:
  otaru image make --chip esp32c3 --project lamp --version 1.0.0 -o lamp-1.0.0.bin
  otaru image make --chip esp32 --project lamp --version 1.1.0 --behaviour crash -o bad.bin
  otaru image make --chip esp32 --project lamp --version 1.2.0 --flash-size 16M --min-revision 300 -o large.bin

The file is a well-formed ESP image with arbitrary contents. Virtual devices (`otaru sim`) act on
its behaviour; do not flash it to a board.";

/// Inspect firmware files, or make synthetic ones
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Check a firmware file and describe it
    #[command(after_help = INFO_EXAMPLES)]
    Info {
        /// The file
        file: PathBuf,
    },
    #[command(after_help = MAKE_EXAMPLES)]
    Make(Make),
}

/// Make a synthetic firmware file for virtual devices
#[derive(clap::Args)]
pub(crate) struct Make {
    /// The chip it is for, such as esp32c3
    #[arg(long)]
    chip: Chip,
    /// Project name: devices take firmware of their own project only
    #[arg(long)]
    project: String,
    /// Version
    #[arg(long = "version", value_name = "VERSION")]
    version: String,
    /// Size in bytes; K and M are understood
    #[arg(long, default_value = "512K", value_name = "BYTES", value_parser = options::bytes)]
    size: usize,
    /// Anti-rollback version; devices take none that is below that of what they run
    #[arg(long, default_value_t = 0, value_name = "N")]
    secure_version: u32,
    /// The flash it is made for, 1M to 128M; devices with less refuse it
    #[arg(long, default_value = "4M", value_name = "BYTES", value_parser = options::bytes)]
    flash_size: usize,
    /// The lowest chip revision it runs on, as 100 times the major plus the minor number; others refuse it
    #[arg(long, value_name = "N")]
    min_revision: Option<u16>,
    /// The highest chip revision it runs on, as 100 times the major plus the minor number; without one, and with
    /// --min-revision, every later one
    #[arg(long, value_name = "N")]
    max_revision: Option<u16>,
    /// Behaviour: healthy; crash or hang at boot; unhealthy (fails its health check); deaf (never reaches the
    /// network); brownout (draws too much at boot); crash_in_update (works, until the next update fills its slot);
    /// blocks (its health check never ends); seizes (stops after an hour); fragile (crashes on 1 in 20)
    #[arg(long, default_value = "healthy", value_name = "WHAT")]
    behaviour: Behaviour,
    /// File for the image
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

pub(crate) fn run(command: Command, output: Output) -> anyhow::Result<Outcome> {
    match command {
        Command::Info { file } => info(&Firmware::read(&file)?, output),
        Command::Make(make) => return run_make(make, output),
    }
    Ok(Outcome::Good)
}

fn run_make(make: Make, output: Output) -> anyhow::Result<Outcome> {
    for (what, text) in [("project", &make.project), ("version", &make.version)] {
        if text.is_empty() || text.len() > 31 || text.chars().any(is_unruly) {
            bail!("--{what} has 1 to 31 bytes and no control characters");
        }
    }
    if make.size > 16 << 20 {
        bail!("--size is at most 16M");
    }
    let needs = needs(&make)?;
    let spec = FirmwareSpec {
        chip: make.chip,
        project: make.project,
        version: make.version,
        secure_version: make.secure_version,
        size: make.size,
        behaviour: make.behaviour,
    };
    std::fs::write(&make.output, spec.build_for(needs))
        .with_context(|| format!("cannot write {}", make.output.display()))?;
    info(&Firmware::read(&make.output)?, output);
    Ok(Outcome::Good)
}

/// Facts about chips in its header.
fn needs(make: &Make) -> anyhow::Result<Needs> {
    let mebibytes = make.flash_size >> 20;
    if !matches!(mebibytes, 1..=128) || make.flash_size != mebibytes.next_power_of_two() << 20 {
        bail!("--flash-size is 1M, 2M, 4M, 8M, 16M, 32M, 64M or 128M");
    }
    let (least, most) = (make.min_revision, make.max_revision);
    // 0 is no limit in a header.
    if let Some(most) = most.filter(|most| *most == 0 || *most < least.unwrap_or(0)) {
        bail!("--max-revision {most} admits no chip; it is above 0 and not below --min-revision");
    }
    Ok(Needs { flash_size: Some(make.flash_size as u32), min_revision: least, max_revision: most })
}

fn info(firmware: &Firmware, output: Output) {
    let header = &firmware.summary.header;
    let about = firmware.about.as_ref();
    if output.json {
        let segments: Vec<_> =
            firmware.segments.iter().map(|s| json!({"address": s.address, "length": s.len})).collect();
        let object = json!({
            "file": firmware.path.display().to_string(),
            "chip": firmware.chip().map(|chip| chip.name()),
            "chip_id": header.chip_id,
            "project": about.map(|a| &a.project),
            "version": about.map(|a| &a.version),
            "idf_version": about.map(|a| &a.idf_version),
            "built": about.map(|a| &a.built),
            "secure_version": about.map(|a| a.secure_version),
            "elf_sha256": about.map(|a| a.elf_sha256.to_string()),
            "size": firmware.summary.len,
            "sha256": firmware.summary.digest.to_string(),
            "trailing": firmware.trailing(),
            "entry": header.entry,
            "min_revision": header.min_revision,
            "max_revision": header.highest_revision(),
            "flash_size": header.flash_size(),
            "signature_block": firmware.is_signed(),
            "named_by_framework": firmware.own_names().is_some_and(|own| own.hint(&own.project, &own.version).is_some()),
            "hash_appended": header.hash_appended,
            "segments": segments,
            "good": true,
        });
        ui::line(&object.to_string());
        return;
    }
    let row = |name: &str, value: &str| ui::line(&format!("{name:<12} {}", ui::clean(value)));
    row("file", &firmware.path.display().to_string());
    row("chip", &firmware.chip_name());
    match about {
        None => row("project", "none: no application descriptor; is it a bootloader or a very old build?"),
        Some(about) => {
            row("project", &about.project);
            row("version", &about.version);
            row("built with", &about.idf_version);
            if !about.built.is_empty() {
                row("built at", &about.built);
            }
            if about.secure_version != 0 {
                row("secure ver.", &about.secure_version.to_string());
            }
            let elf = about.elf_sha256;
            row("ELF SHA-256", &if elf.is_zero() { "not filled in".into() } else { elf.to_string() });
        }
    }
    let len = firmware.summary.len;
    row("revisions", &otaru_api::Needs::from(header).revisions());
    row("flash", &header.flash_size().map_or_else(|| "unknown".to_owned(), |size| ui::size(size.into())));
    row("size", &format!("{len} bytes ({})", ui::size(len.into())));
    row("SHA-256", &firmware.summary.digest.to_string());
    for (index, segment) in firmware.segments.iter().enumerate() {
        let name = if index == 0 { "segments" } else { "" };
        row(name, &format!("0x{:08x}  {:>9} bytes", segment.address, segment.len));
    }
    let appended = if header.hash_appended {
        "good, and so is the appended SHA-256"
    } else {
        "good; no SHA-256 appended"
    };
    row("checksum", appended);
    if firmware.is_signed() {
        row("signature", "a block of secure boot v2 follows the image, and is kept with it");
    }
    if let Some(why) = firmware.nameless() {
        ui::warn(&format!("devices do not take this image unless they are forced: {why}"));
    }
    if firmware.trailing() > 0 {
        row(
            "after it",
            &format!(
                "{} no part of the image, left out",
                match firmware.trailing() {
                    1 => "1 byte that is".to_owned(),
                    count => format!("{count} bytes that are"),
                }
            ),
        );
    }
    if let Some(hint) = firmware.own_names().and_then(|own| own.hint(&own.project, &own.version)) {
        ui::warn(&format!("at upload it looks like other releases: {hint}"));
    }
}
