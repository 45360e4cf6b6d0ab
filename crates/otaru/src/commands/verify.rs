//! `otaru verify`: is a release file good, and who vouches for it?

use std::path::PathBuf;

use anyhow::Context as _;
use otaru_release::verify::{try_patches, verify, verify_contents};
use serde_json::json;

use crate::output::{Outcome, Output};
use crate::release_file::chip_name;
use crate::{release_file, ui};

const EXAMPLES: &str = "\
Examples:
  otaru verify lamp-1.1.0.otaru --key release.pub.pem
  otaru verify lamp-1.1.0.otaru --key old.pub.pem --key new.pub.pem
  otaru verify lamp-1.1.0.otaru --contents-only --base lamp-1.0.0.bin

It checks the structure, the signature, every block of every payload against its hash, that each
compressed frame gives its block, and that a bootloader would start the image. A patch is tried if
the image that it is for is given with --base. Exit code 0 means that all of it is good.";

/// Check a release file and its signature
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The file
    #[arg(value_name = "FILE.otaru")]
    file: PathBuf,
    /// A public key that may have signed it; may be given several times
    #[arg(short, long, value_name = "PUB.pem", required_unless_present = "contents_only")]
    key: Vec<PathBuf>,
    /// Check the contents but not who signed them: all that can be checked of an unsigned release
    #[arg(long, conflicts_with = "key")]
    contents_only: bool,
    /// An image to try a patch of the release on; may be given several times
    #[arg(long, value_name = "OLD.bin")]
    base: Vec<PathBuf>,
}

pub(crate) fn run(args: &Args, output: Output) -> anyhow::Result<Outcome> {
    let keys = release_file::public_keys(&args.key)?;
    let bytes = release_file::read(&args.file)?;
    let bases = release_file::bases(&args.base)?;
    let verified = if args.contents_only { verify_contents(&bytes) } else { verify(&bytes, &keys) };
    let verified = verified.with_context(|| args.file.display().to_string())?;
    let patches = try_patches(&verified.file, &bases).with_context(|| args.file.display().to_string())?;
    let manifest = &verified.file.manifest;
    let signer = verified.file.envelope.key_id().filter(|_| !args.contents_only).map(|id| id.to_string());
    if patches.untried > 0 {
        let untried = patches.untried;
        let (what, they) = if untried == 1 { ("patch was", "it is") } else { ("patches were", "they are") };
        ui::warn(&format!("{untried} {what} not tried: --base gives the image that {they} for"));
    }
    if output.json {
        let object = json!({
            "file": args.file.display().to_string(), "good": true, "signed_by": signer,
            "product": manifest.product, "also": manifest.also().collect::<Vec<_>>(), "version": manifest.version, "sequence": manifest.sequence,
            "image": manifest.image.to_string(), "patches_tried": patches.good, "patches_not_tried": patches.untried,
        });
        ui::line(&object.to_string());
        return Ok(Outcome::Good);
    }
    let who = match &signer {
        Some(id) => format!("signed by {id}"),
        None => "its signature was not checked".to_owned(),
    };
    let also: String = manifest.also().map(|name| format!(", also for {name}")).collect();
    let what = format!("{} {} for {}{also}", manifest.product, manifest.version, chip_name(manifest.chip_id));
    let tried = match patches.good {
        0 => String::new(),
        1 => ", 1 patch tried".to_owned(),
        more => format!(", {more} patches tried"),
    };
    ui::line(&ui::clean(&format!("good: {what}, sequence {}, {who}{tried}", manifest.sequence)));
    Ok(Outcome::Good)
}
