//! From an image to a release file.

use std::path::PathBuf;

use anyhow::Context as _;
use otaru_format::release::{KeyId, MAX_SEQUENCE};
use otaru_release::build::{Options, Progress, Stage, build};
use otaru_server::releases::naming::is_framework_version;

use crate::firmware_file::Firmware;
use crate::output::{Outcome, Output};
use crate::ui::bar::bar;
use crate::ui::live::Live;
use crate::{release_file, release_words, ui};

pub(super) const EXAMPLES: &str = "\
Examples:
  otaru keygen -o release.pem
  otaru release lamp-1.1.0.bin --key release.pem -o lamp-1.1.0.otaru
  otaru release lamp-1.2.0.bin --key release.pem --base lamp-1.1.0.bin --base lamp-1.0.0.bin -o lamp-1.2.0.otaru
  otaru release lamp-2.0.0.bin --key release.pem --min-base 1.1.0 --sequence 20 -o lamp-2.0.0.otaru
  otaru release WLED_0.14.4.bin --product wled --version 0.14.4 --key release.pem -o wled-0.14.4.otaru

Chip, project, version and secure version come from the image. Any web server can serve the file.
An image that is made with Arduino has the framework's name and version: give it its own with --version,
and with --product where devices have that product in their configuration (`Config::product`).

A device that runs one of the --base images fetches a patch, a few per cent of the image; all others
fetch the compressed image from the same file. Give the images that most of your devices run, as
they were flashed or released: a rebuilt one is another image.

The sequence number must rise from release to release of a product: devices take no release whose
number is below that of the one they run. Without --sequence it is the time, in milliseconds since 1970,
so that whatever is released later has the higher number. Number releases yourself only if you
always do; a number of your own is lower than any such time. None is above 9007199254740991 (2^53 - 1),
the largest that programs read from JSON exactly.";

/// Arguments for making a release file.
#[derive(clap::Args)]
pub(crate) struct Make {
    /// The image, as `espflash save-image` writes it
    #[arg(value_name = "FILE.bin")]
    file: PathBuf,
    /// The private key to sign with; without one the release is unsigned
    #[arg(short, long, value_name = "KEY.pem", env = "OTARU_KEY")]
    key: Option<PathBuf>,
    /// The release's number; the milliseconds since 1970 when not given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=MAX_SEQUENCE))]
    sequence: Option<u64>,
    /// The product, where it is not the image's project name
    #[arg(long, value_name = "NAME")]
    product: Option<String>,
    /// The version, where it is not the image's own: some frameworks put the same into every build
    #[arg(long = "version", value_name = "VERSION")]
    version: Option<String>,
    /// A further product whose devices take it, such as the old name of one that is renamed; may be given up to four times
    #[arg(long, value_name = "NAME")]
    also: Vec<String>,
    /// The least version a device must run to take this release, such as 1.1.0
    #[arg(long, value_name = "VERSION")]
    min_base: Option<String>,
    /// A key that devices shall not trust any longer; may be given up to four times
    #[arg(long, value_name = "KEYID", value_delimiter = ',')]
    revoke: Vec<KeyId>,
    /// An image that devices run now, to make a patch for; may be given up to fourteen times
    #[arg(long, value_name = "OLD.bin")]
    base: Vec<PathBuf>,
    /// Do not compress
    #[arg(long)]
    raw: bool,
    /// File for the release
    #[arg(short, long, value_name = "FILE.otaru")]
    output: PathBuf,
}

pub(crate) fn run(args: &Make, output: Output) -> anyhow::Result<Outcome> {
    let firmware = Firmware::read(&args.file)?;
    // Before the long work, so that a bad key is told at once.
    let key = args.key.as_deref().map(release_file::secret_key).transpose()?;
    let options = Options {
        sequence: match args.sequence {
            Some(sequence) => sequence,
            None => release_file::sequence_now()?,
        },
        product: args.product.clone(),
        version: args.version.clone(),
        also: args.also.clone(),
        min_base: args.min_base.clone(),
        revoked: args.revoke.clone(),
        compress: !args.raw,
        bases: release_file::bases(&args.base)?,
    };
    let mut live = Live::new(output);
    let unsigned = build(&firmware.bytes, &options, &mut |progress| show(live.as_mut(), progress));
    if let Some(live) = &mut live {
        live.draw(&[]);
    }
    drop(live);
    let unsigned = unsigned.with_context(|| format!("no release of {}", args.file.display()))?;
    let file = match &key {
        Some(key) => unsigned.sign(key)?,
        None => unsigned.without_signature()?,
    };
    let sources = std::iter::once(&args.file).chain(&args.key).chain(&args.base);
    let sources: Vec<_> = sources.map(PathBuf::as_path).collect();
    release_file::write(&args.output, &file, &sources)?;
    firmware.remarks().iter().for_each(|remark| ui::warn(remark));
    if let Some(own) = firmware.own_names() {
        let product = args.product.as_deref().unwrap_or(&own.project);
        let version = args.version.as_deref().unwrap_or(&own.version);
        let base = args.min_base.as_ref().filter(|_| is_framework_version(&own.version));
        let base = base.map(|least| {
            format!(
                "--min-base {least} is held against the version in the image that a device runs, not against that of its release: \
                 if that is like {:?}, the device refuses (base_too_old)",
                own.version
            )
        });
        let remarks = own.hint(product, version).into_iter().chain(own.only_for(product)).chain(base);
        remarks.for_each(|remark| ui::warn(&remark));
    }
    if key.is_none() {
        ui::warn(
            "this release is NOT SIGNED: whoever can change the file decides what devices run, and devices that \
             want a signature refuse it. `otaru keygen` makes a key, `otaru resign` signs this file with it",
        );
    }
    release_words::show(&args.output, &file, output)
}

fn show(live: Option<&mut Live>, progress: Progress) {
    let Some(live) = live else { return };
    if live.due() || progress.done == progress.of {
        let percent = (progress.done * 100).checked_div(progress.of).unwrap_or(100).min(100) as u8;
        let ratio = match progress.taken {
            0 => String::new(),
            taken => format!("  to {:.1} %", progress.given as f64 * 100.0 / taken as f64),
        };
        let what = match progress.stage {
            Stage::Patches => "making patches",
            Stage::Blocks => "compressing",
        };
        live.draw(&[format!("{} {percent:>3} %  {what}{ratio}", bar(percent))]);
    }
}
