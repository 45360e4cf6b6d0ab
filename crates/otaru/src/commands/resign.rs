//! `otaru resign`: the same release, signed with another key.

use std::path::PathBuf;

use anyhow::Context as _;
use otaru_release::sign::resign;
use otaru_release::verify::{verify, verify_contents};

use super::inspect;
use crate::cli::{Outcome, Output};
use crate::{release_file, ui};

const EXAMPLES: &str = "\
Examples:
  otaru resign lamp.otaru --old-key old.pub.pem --key new.pem -o lamp-new-key.otaru
  otaru resign unsigned.otaru --key release.pem -o lamp.otaru

Manifest and payloads stay as they are, byte for byte. Who signs vouches for them, so the contents
are checked first, and with --old-key also who vouched for them before.";

/// Sign a release file with another key
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
    /// Where to write the release
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
    let new = resign(&old, &key)?;
    release_file::write(&args.output, &new, &[&args.key])?;
    inspect::show(&args.output, &new, output)
}
