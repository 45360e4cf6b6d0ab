//! `otaru offer`: a signed command, for devices that take commands from a key only.

use std::path::PathBuf;

use anyhow::Context as _;
use otaru_format::command;
use otaru_format::digest::Digest;
use otaru_release::file::ReleaseFile;
use otaru_release::offer::sign_offer;
use serde_json::json;

use crate::cli::{Outcome, Output};
use crate::firmware_file::Firmware;
use crate::{release_file, ui};

const EXAMPLES: &str = "\
Examples:
  otaru offer --key release.pem --url http://server/lamp.otaru --file lamp.otaru -o lamp.offer
  mosquitto_pub -t ESP32/ota/update -f lamp.offer
  otaru offer --key release.pem --url http://server/old.otaru --file old.otaru --force -o back.offer

The serial number protects from replay: a device takes no signed offer whose number is below
that of the last one it took. Without --serial it is the time, in milliseconds since 1970. Only a
signed offer can make a device go back to an older release (--force).";

/// Sign a command for devices
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The private key to sign with
    #[arg(short, long, value_name = "KEY.pem", env = "OTARU_KEY")]
    key: PathBuf,
    /// Where devices fetch the release
    #[arg(long)]
    url: String,
    /// SHA-256 of the image in it; a device takes no other
    #[arg(long, value_name = "DIGEST", required_unless_present = "file")]
    image: Option<Digest>,
    /// The release or image at that URL, to take the SHA-256 from
    #[arg(long, value_name = "FILE", conflicts_with = "image")]
    file: Option<PathBuf>,
    /// Your name for this deployment, which devices put into their reports
    #[arg(long, value_name = "NAME")]
    deployment: Option<String>,
    /// Take it even if it is older than what runs, failed before, or is for another product
    #[arg(long)]
    force: bool,
    /// The offer's number, above that of every earlier offer; the milliseconds since 1970 when not given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    serial: Option<u64>,
    /// Where to write the signed offer
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

pub(crate) fn run(args: &Args, output: Output) -> anyhow::Result<Outcome> {
    let key = release_file::secret_key(&args.key)?;
    let image = image(args)?;
    let serial = match args.serial {
        Some(serial) => serial,
        None => release_file::milliseconds()?,
    };
    let offer = command::Offer {
        url: &args.url,
        image,
        deployment: args.deployment.as_deref(),
        force: args.force,
        serial: Some(serial),
    };
    let signed = sign_offer(&offer, &key)?;
    let sources: Vec<_> = std::iter::once(&args.key).chain(&args.file).map(PathBuf::as_path).collect();
    release_file::write(&args.output, &signed, &sources)?;
    let (file, id) = (args.output.display(), key.public().id());
    if output.json {
        let object = json!({
            "file": file.to_string(), "url": args.url, "image": image.map(|image| image.to_string()),
            "deployment": args.deployment, "force": args.force, "serial": serial, "key_id": id.to_string(),
        });
        ui::line(&object.to_string());
    } else {
        ui::line(&ui::clean(&format!("{file}: {} bytes, serial {serial}, signed with {id}", signed.len())));
        ui::line(&ui::clean(&format!("send it with: mosquitto_pub -t ESP32/ota/update -f {file}")));
    }
    Ok(Outcome::Good)
}

fn image(args: &Args) -> anyhow::Result<Option<Digest>> {
    let Some(path) = &args.file else { return Ok(args.image) };
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    if otaru_release::file::is_release(&bytes) {
        let file = ReleaseFile::parse(&bytes).with_context(|| path.display().to_string())?;
        return Ok(Some(file.manifest.image));
    }
    Ok(Some(Firmware::read(path)?.summary.digest))
}
