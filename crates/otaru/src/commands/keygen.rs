//! `otaru keygen`: a new signing key.

use std::path::{Path, PathBuf};

use anyhow::bail;
use otaru_release::keys::SecretKey;
use otaru_release::output::Existing;
use serde_json::json;

use crate::output::{Outcome, Output};
use crate::ui;

const EXAMPLES: &str = "\
Examples:
  otaru keygen -o release.pem
  openssl pkey -in release.pem -noout -text

This writes release.pem, which signs releases and which nobody but you should have, and
release.pub.pem, which anybody may have and which `otaru verify` needs. Devices are given the 32
bytes of the public key. Keep a copy of the private key in a safe place: devices that trust no
other key can be updated only by cable once it is lost.";

/// Create a key to sign releases with
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// File for the private key; the public key goes beside it, as KEY.pub.pem
    #[arg(short, long, value_name = "KEY.pem")]
    output: PathBuf,
    /// Overwrite keys that are there
    #[arg(long)]
    force: bool,
}

pub(crate) fn run(args: &Args, output: Output) -> anyhow::Result<Outcome> {
    let private = &args.output;
    let public = public_path(private);
    let existing = if args.force { Existing::Replace } else { Existing::Keep };
    if !args.force && public.exists() {
        bail!("{} is there already; choose another name, or say --force", public.display());
    }
    let key = SecretKey::generate()?;
    key.write(private, existing)?;
    key.public().write(&public, existing)?;
    let (id, bytes) = (key.public().id(), hex::encode(key.public().to_bytes()));
    if output.json {
        let object = json!({
            "key_id": id.to_string(), "public_key": bytes,
            "private_file": private.display().to_string(), "public_file": public.display().to_string(),
        });
        ui::line(&object.to_string());
        return Ok(Outcome::Good);
    }
    let row = |name: &str, value: &str| ui::line(&format!("{name:<12} {}", ui::clean(value)));
    row("key id", &id.to_string());
    row("public key", &bytes);
    row("private", &format!("{}  keep it secret, and keep a copy", private.display()));
    row("public", &format!("{}  give it to whoever verifies", public.display()));
    Ok(Outcome::Good)
}

/// `KEY.pub.pem` beside `KEY.pem`.
fn public_path(private: &Path) -> PathBuf {
    let name = private.file_name().unwrap_or_default().to_string_lossy();
    private.with_file_name(format!("{}.pub.pem", name.strip_suffix(".pem").unwrap_or(&name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_public_key_goes_beside() {
        for (private, public) in
            [("a/k.pem", "a/k.pub.pem"), ("k", "k.pub.pem"), ("k.key.pem", "k.key.pub.pem")]
        {
            assert_eq!(public_path(Path::new(private)), Path::new(public));
        }
    }
}
