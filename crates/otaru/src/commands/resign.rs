//! `otaru resign`: the same release, signed with another key, or with a higher sequence.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use otaru_format::release::MAX_SEQUENCE;
use otaru_release::sign::{resign, resign_as};
use otaru_release::verify::{verify, verify_contents};

use crate::output::{Outcome, Output};
use crate::release_words::show;
use crate::{release_file, ui};

const EXAMPLES: &str = "\
Examples:
  otaru resign lamp.otaru --old-key old.pub.pem --key new.pem -o lamp-new-key.otaru
  otaru resign unsigned.otaru --key release.pem -o lamp.otaru
  otaru resign lamp-1.1.0.otaru --key release.pem --sequence -o lamp-1.1.0-again.otaru

Payloads and patches stay as they are, byte for byte, and without --sequence the manifest too. Who
signs vouches for them, so the contents are checked first, and with --old-key also who vouched for
them before.

--sequence is the way back to an older release: devices refuse it as it was, and take it again as a
newer one. So it also opens the way for images that were rolled back. Whoever signs a way back opens
it to every device of the product, until a release with a higher sequence is confirmed there. The
number is the milliseconds since 1970, or the one you give; it must be above every number the
product has had, and at most 9007199254740991 (2^53 - 1).";

/// Sign a release file with another key, or again with a higher sequence
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The file
    #[arg(value_name = "FILE.otaru")]
    file: PathBuf,
    /// The private key to sign with
    #[arg(short, long, value_name = "KEY.pem", env = "OTARU_KEY")]
    key: PathBuf,
    /// A public key of which one must have signed the file until now
    #[arg(long, value_name = "PUB.pem")]
    old_key: Vec<PathBuf>,
    /// Make it a newer release of the same image, so that devices go back to it: with this number, or with the
    /// milliseconds since 1970 when none is given
    #[arg(long, value_name = "N", num_args = 0..=1, value_parser = clap::value_parser!(u64).range(1..=MAX_SEQUENCE))]
    sequence: Option<Option<u64>>,
    /// File for the release
    #[arg(short, long, value_name = "FILE.otaru")]
    output: PathBuf,
}

pub(crate) fn run(args: &Args, output: Output) -> anyhow::Result<Outcome> {
    let key = release_file::secret_key(&args.key)?;
    let old_keys = release_file::public_keys(&args.old_key)?;
    let old = release_file::read(&args.file)?;
    let checked = if old_keys.is_empty() { verify_contents(&old) } else { verify(&old, &old_keys) };
    let checked = checked.with_context(|| format!("not signed: {}", args.file.display()))?;
    if old_keys.is_empty() && checked.file.envelope.key_id().is_some() {
        ui::warn("the old signature was not checked; --old-key does that");
    }
    let new = match args.sequence {
        None => resign(&old, &key)?,
        Some(wanted) => resign_as(&old, next(wanted, checked.file.manifest.sequence)?, &key)?,
    };
    release_file::write(&args.output, &new, &[&args.key])?;
    if args.sequence.is_some() {
        let manifest = &checked.file.manifest;
        ui::warn(&ui::clean(&format!(
            "every {} that trusts this key takes version {} now, until a release with a higher sequence is \
             confirmed there",
            manifest.product, manifest.version
        )));
    }
    show(&args.output, &new, output)
}

/// The new sequence, above the old one.
fn next(wanted: Option<u64>, old: u64) -> anyhow::Result<u64> {
    match wanted {
        Some(wanted) if wanted <= old => {
            bail!("--sequence {wanted} is not above {old}, which the file has: devices would refuse it")
        }
        Some(wanted) => Ok(wanted),
        // A file whose number is above any time was numbered by hand.
        None if old >= MAX_SEQUENCE => bail!(
            "no sequence is higher than {old}, which the file has; make a release of the image with a lower one"
        ),
        None => Ok(release_file::sequence_now()?.max(old + 1)),
    }
}
