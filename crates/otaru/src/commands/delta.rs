//! `otaru delta`: patches from one image to another, made, applied and looked into.

use std::path::{Path, PathBuf};
use std::process::{Command as Process, Stdio};

use anyhow::{Context as _, bail};
use otaru_delta::{Contents, Costs, Encoded, analyze, apply_to_slice, encode_with};
use otaru_format::image::ImageCheck;
use otaru_format::image::file::{is_merged, kept_len};
use otaru_server::releases::remarks;
use serde_json::{Map, Value, json};

use crate::firmware_file::FirmwareError;
use crate::output::{Outcome, Output};
use crate::ui::bar::bar;
use crate::ui::live::Live;
use crate::{release_file, ui};

const EXAMPLES: &str = "\
Examples:
  otaru delta lamp-1.0.0.bin lamp-1.1.0.bin -o lamp.patch
  otaru delta apply lamp-1.0.0.bin lamp.patch -o lamp-1.1.0.bin
  otaru delta stat lamp-1.0.0.bin lamp-1.1.0.bin

A patch leads from one image to another and to no other. Making one is fastest, and the patch
smallest, for two builds of one project for one chip by one compiler.";

/// The longest file that is read: more than any chip's flash.
const LARGEST: u64 = 64 << 20;

/// Create, apply or analyse a patch from one image to another
#[derive(clap::Args)]
#[command(after_help = EXAMPLES, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    create: Option<Create>,
}

#[derive(clap::Args)]
struct Create {
    /// The image that devices run
    #[arg(value_name = "OLD.bin")]
    old: PathBuf,
    /// The image they are to run
    #[arg(value_name = "NEW.bin")]
    new: PathBuf,
    /// File for the patch
    #[arg(short, long, value_name = "PATCH")]
    output: PathBuf,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Apply a patch to the old image, which gives the new one
    Apply {
        /// The image that the patch was made from
        #[arg(value_name = "OLD.bin")]
        old: PathBuf,
        /// The patch
        #[arg(value_name = "PATCH")]
        patch: PathBuf,
        /// File for the new image
        #[arg(short, long, value_name = "NEW.bin")]
        output: PathBuf,
    },
    /// Show what a patch consists of, and how large other methods' patches are
    Stat {
        /// The image that devices run
        #[arg(value_name = "OLD.bin")]
        old: PathBuf,
        /// The image they are to run
        #[arg(value_name = "NEW.bin")]
        new: PathBuf,
    },
}

pub(crate) fn run(args: &Args, output: Output) -> anyhow::Result<Outcome> {
    match (&args.command, &args.create) {
        (Some(Command::Apply { old, patch, output: to }), _) => apply(old, patch, to, output),
        (Some(Command::Stat { old, new }), _) => stat(old, new, output),
        (None, Some(create)) => make(create, output),
        (None, None) => bail!("two images are needed; see `otaru delta --help`"),
    }
}

fn make(Create { old, new, output: to }: &Create, output: Output) -> anyhow::Result<Outcome> {
    let (old_image, new_image) = (read_image(old)?, read_image(new)?);
    let encoded = with_progress(output, |progress| encode_with(&old_image, &new_image, progress))?;
    release_file::write(to, &encoded.patch, &[old, new])?;
    if output.json {
        let object = summary(&encoded, new_image.len());
        ui::line(&Value::from(object).to_string());
    } else {
        ui::line(&ui::clean(&format!("{}: {}", to.display(), length(encoded.patch.len(), new_image.len()))));
    }
    Ok(Outcome::Good)
}

fn apply(old: &Path, patch: &Path, to: &Path, output: Output) -> anyhow::Result<Outcome> {
    let new = apply_to_slice(&read_image(old)?, &read(patch)?, LARGEST as u32)
        .with_context(|| format!("{} cannot be applied to {}", patch.display(), old.display()))?;
    release_file::write(to, &new, &[old, patch])?;
    if output.json {
        ui::line(&json!({ "file": to.display().to_string(), "bytes": new.len() }).to_string());
    } else {
        ui::line(&ui::clean(&format!(
            "{}: {}, as they should be",
            to.display(),
            ui::many(new.len() as u64, "byte")
        )));
    }
    Ok(Outcome::Good)
}

fn stat(old: &Path, new: &Path, output: Output) -> anyhow::Result<Outcome> {
    let (old_image, new_image) = (read_image(old)?, read_image(new)?);
    let (encoded, costs) = with_progress(output, |progress| analyze(&old_image, &new_image, progress))?;
    let others = others(old, new)?;
    let Costs { control, addresses, others: other, new: brought } = costs;
    if output.json {
        let mut object = summary(&encoded, new_image.len());
        object.insert(
            "costs".into(),
            json!({ "control": control, "addresses": addresses, "other_corrections": other, "new": brought }),
        );
        object.insert("others".into(), others.into_iter().collect::<Map<_, _>>().into());
        ui::line(&Value::from(object).to_string());
        return Ok(Outcome::Good);
    }
    let Contents { copies, copied, predicted, corrected_addresses, corrected_others, new: new_bytes } =
        encoded.contents;
    let copied_in = |count: u32| if count == 1 { "1 copy".to_owned() } else { format!("{count} copies") };
    let row = |bytes: u32, what: String| ui::line(&format!("{bytes:>9}  {what}"));
    ui::line(&format!("patch: {}", length(encoded.patch.len(), new_image.len())));
    ui::line("of these, in bytes, each taken away alone:");
    row(
        control,
        format!("say where the {} of {} come from", ui::many(copied.into(), "byte"), copied_in(copies)),
    );
    row(
        addresses,
        format!(
            "correct {} in predicted addresses, of which there are {predicted}",
            ui::many(corrected_addresses.into(), "byte")
        ),
    );
    row(other, format!("correct {} of what is copied", ui::many(corrected_others.into(), "other byte")));
    row(brought, format!("bring {} of new code and data", ui::many(new_bytes.into(), "byte")));
    for (name, bytes) in others {
        let what = match bytes.as_u64() {
            Some(bytes) => length(bytes as usize, new_image.len()),
            None => "not installed".to_owned(),
        };
        ui::line(&format!("{name}: {what}"));
    }
    Ok(Outcome::Good)
}

/// Takes from a file what devices run, or shall run: no device runs a whole flash, and what fills an image's file up is no part of it.
fn read_image(path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut bytes = read(path)?;
    if is_merged(&bytes) {
        return Err(FirmwareError::Merged(path.to_owned()).into());
    }
    let mut check = ImageCheck::new(LARGEST as u32);
    if check.feed(&bytes).is_ok()
        && let Ok(summary) = check.finish()
    {
        let kept = kept_len(&bytes, summary.len) as usize;
        for remark in remarks::of_file((bytes.len() - kept) as u64, kept > summary.len as usize) {
            ui::warn(&format!("{}: {remark}", path.display()));
        }
        bytes.truncate(kept);
    }
    Ok(bytes)
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let failed = || format!("cannot read {}", path.display());
    if std::fs::metadata(path).with_context(failed)?.len() > LARGEST {
        bail!("{} has more than 64 MiB", path.display());
    }
    std::fs::read(path).with_context(failed)
}

fn length(bytes: usize, of: usize) -> String {
    format!("{bytes} bytes, {:.2} % of the new image", bytes as f64 * 100.0 / of.max(1) as f64)
}

fn summary(encoded: &Encoded, new_len: usize) -> Map<String, Value> {
    let Contents { copies, copied, predicted, corrected_addresses, corrected_others, new } = encoded.contents;
    let fields = [
        ("bytes", encoded.patch.len().into()),
        ("new_image", new_len.into()),
        ("copies", copies.into()),
        ("copied", copied.into()),
        ("predicted_addresses", predicted.into()),
        ("corrected_address_bytes", corrected_addresses.into()),
        ("corrected_other_bytes", corrected_others.into()),
        ("new_bytes", new.into()),
    ];
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Does the long work with a bar, where there is a terminal.
fn with_progress<R, E>(
    output: Output,
    work: impl FnOnce(&mut dyn FnMut(u8)) -> Result<R, E>,
) -> Result<R, E> {
    let mut live = Live::new(output);
    let mut show = |percent: u8| {
        if let Some(live) = &mut live {
            live.draw(&[format!("{} {percent:>3} %  comparing", bar(percent))]);
        }
    };
    show(0);
    let result = work(&mut show);
    if let Some(live) = &mut live {
        live.draw(&[]);
    }
    result
}

/// Sizes that other programs make of the same images, in bytes; null for those that are not installed.
fn others(old: &Path, new: &Path) -> anyhow::Result<Vec<(String, Value)>> {
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    let file = folder.path().join("patch");
    let detools = [
        "create_patch",
        "-c",
        "heatshrink",
        "--heatshrink-window-sz2",
        "8",
        "--heatshrink-lookahead-sz2",
        "7",
    ];
    let mut commands =
        [("detools, heatshrink 8,7", Process::new("detools")), ("bsdiff", Process::new("bsdiff"))];
    commands[0].1.args(detools);
    let mut sizes = Vec::new();
    for (name, mut command) in commands {
        let done = command.args([old, new, &file]).stdout(Stdio::null()).stderr(Stdio::null()).status();
        let made = done.is_ok_and(|status| status.success());
        let bytes = made.then(|| std::fs::metadata(&file).map(|meta| meta.len())).transpose()?;
        sizes.push((name.to_owned(), bytes.into()));
    }
    let xz = Process::new("xz").args(["-9e", "-c"]).arg(new).stderr(Stdio::null()).output();
    let bytes = xz.ok().filter(|output| output.status.success()).map(|output| output.stdout.len());
    sizes.push(("xz, the whole image".to_owned(), bytes.into()));
    Ok(sizes)
}
