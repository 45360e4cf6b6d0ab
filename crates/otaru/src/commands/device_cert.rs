//! `otaru device-cert`: a certificate for a device to log in with.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use otaru_format::topic::{DEFAULT_BASE, Topics};
use otaru_release::output::{self, Access, Existing};
use otaru_rollout::Time;
use otaru_server::tls::device::{self, Issued};
use serde_json::json;

use crate::output::{Outcome, Output};
use crate::ui;

const EXAMPLES: &str = "\
Examples:
  otaru device-cert --make-ca --device-ca device-ca.pem --device-ca-key device-ca.key     once; keep the key off the server
  otaru device-cert lamp-7 --device-ca device-ca.pem --device-ca-key device-ca.key -o lamp-7.pem
  otaru serve --tls-dev --device-ca device-ca.pem

The file has the device's certificate and its private key. The device's name is the certificate's common
name, and its client id at the broker. `otaru devices retire NAME` ends it at once.";

/// Create a certificate for a device to log in with over MQTTS
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Name of the device
    #[arg(value_name = "NAME", required_unless_present = "make_ca")]
    name: Option<String>,
    /// Certificate of the authority that signs
    #[arg(long, value_name = "CA.pem")]
    device_ca: PathBuf,
    /// Private key of that authority
    #[arg(long, value_name = "CA.key")]
    device_ca_key: PathBuf,
    /// Make the authority: write --device-ca and --device-ca-key
    #[arg(long)]
    make_ca: bool,
    /// File for the device's certificate and its private key
    #[arg(short, long, value_name = "FILE.pem", required_unless_present = "make_ca")]
    output: Option<PathBuf>,
    /// Days that the device's certificate is good for; an authority has 20 years
    #[arg(long, value_name = "N", default_value_t = 3_650, value_parser = clap::value_parser!(u64).range(1..=36_500))]
    days: u64,
    /// Overwrite files that are there
    #[arg(long)]
    force: bool,
}

/// Days of an authority.
const AUTHORITY_DAYS: u64 = 7_300;

pub(crate) fn run(args: &Args, output: Output) -> anyhow::Result<Outcome> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).context("this machine's clock")?;
    let now = Time(u64::try_from(since.as_millis())?);
    let existing = if args.force { Existing::Replace } else { Existing::Keep };
    if args.make_ca {
        make_authority(args, existing, now)?;
    }
    let (Some(name), Some(file)) = (&args.name, &args.output) else {
        tell(output, "authority", &args.device_ca, "give it to the server: --device-ca");
        return Ok(Outcome::Good);
    };
    if Topics::new(DEFAULT_BASE, name).is_err() {
        bail!("no device can be called {name:?}");
    }
    let read = |path: &Path| {
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
    };
    let certificate = read(&args.device_ca)?;
    if !certificate.contains("-----BEGIN CERTIFICATE-----") {
        bail!("there is no certificate in {} (-----BEGIN CERTIFICATE-----)", args.device_ca.display());
    }
    let authority = Issued { certificate, key: read(&args.device_ca_key)?.into() };
    let issued = device::sign(&authority, name, args.days, now)?;
    write(file, &format!("{}{}", issued.certificate, *issued.key), Access::Private, existing)?;
    tell(output, "certificate", file, "give it to the device, and to nobody else: its key is in it");
    Ok(Outcome::Good)
}

fn make_authority(args: &Args, existing: Existing, now: Time) -> anyhow::Result<()> {
    if !args.force && args.device_ca.exists() {
        bail!("{} is there already; choose another name, or say --force", args.device_ca.display());
    }
    let authority = device::authority("Otaru's devices", AUTHORITY_DAYS, now)?;
    write(&args.device_ca_key, &authority.key, Access::Private, existing)?;
    write(&args.device_ca, &authority.certificate, Access::Usual, existing)
}

fn write(path: &Path, text: &str, access: Access, existing: Existing) -> anyhow::Result<()> {
    let written = output::write(path, text.as_bytes(), access, existing);
    written
        .with_context(|| format!("cannot write {}; --force overwrites a file that is there", path.display()))
}

fn tell(output: Output, what: &str, file: &Path, advice: &str) {
    match output.json {
        true => ui::line(&json!({what: file.display().to_string()}).to_string()),
        false => ui::line(&format!("{what:<12} {}    {advice}", file.display())),
    }
}
