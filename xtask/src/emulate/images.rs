//! The firmwares of the story.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::{machine, peers};
use crate::firmware::{self, Files};

/// One firmware: what is fetched, and the image that has to stand in the slot after it.
pub(super) struct Update {
    pub(super) file: &'static str,
    pub(super) version: &'static str,
    pub(super) image: Vec<u8>,
    /// Program of the image, for the addresses in it.
    pub(super) elf: PathBuf,
}

impl Update {
    /// Puts a file of this folder where the web server has it, and reads the image of its version.
    pub(super) fn served(folder: &Path, file: &'static str, version: &'static str) -> Result<Self> {
        let image =
            fs::read(folder.join(format!("{version}.bin"))).context("no firmware of an earlier run")?;
        fs::copy(folder.join(file), folder.join("www").join(file))?;
        Ok(Self { file, version, image, elf: folder.join(format!("{version}.elf")) })
    }
}

/// The firmwares of the story.
pub(super) struct Images {
    pub(super) port: u16,
    pub(super) not_set_up: PathBuf,
    pub(super) flash: PathBuf,
    pub(super) first: Update,
    pub(super) second: Update,
    /// Crashes at its start.
    pub(super) crashing: Update,
    pub(super) release: Update,
    pub(super) delta: Update,
    /// Waits for the broker less long than others, and crashes in every update of its own.
    pub(super) impatient: Update,
    /// The health check lets nothing else run.
    pub(super) blocking_check: Update,
    /// A minute after its start it lets nothing else run.
    pub(super) blocking: Update,
}

/// Firmwares that are built: version, networks that it knows (none: it is set up on its page), and what it does wrong.
type Build = (&'static str, &'static [&'static str], Option<&'static str>);

const ONE: &[&str] = &[machine::NETWORK];
const BUILDS: [Build; 8] = [
    ("0.9.0", &[], Some("setup_as_client")),
    ("1.0.0", &["Out of reach", machine::NETWORK], None),
    ("1.1.0", ONE, None),
    ("1.2.0", ONE, Some("crash")),
    ("1.3.0", ONE, None),
    ("1.4.0", ONE, Some("impatient,crash_in_update")),
    ("1.5.0", ONE, Some("impatient,block_check")),
    ("1.6.0", ONE, Some("impatient,block")),
];

impl Images {
    /// Builds them, or takes those of the last run.
    pub(super) fn make(folder: &Path, keep: bool) -> Result<Self> {
        let note = folder.join("port");
        let kept = fs::read_to_string(&note).ok().and_then(|text| text.trim().parse().ok()).filter(|_| keep);
        let port = match kept {
            Some(port) => port,
            None => {
                let port = peers::free_port()?;
                build(folder, port)?;
                fs::write(&note, port.to_string())?;
                port
            }
        };
        let update = |file, version| Update::served(folder, file, version);
        Ok(Self {
            port,
            not_set_up: folder.join("0.9.0-flash.bin"),
            flash: folder.join("1.0.0-flash.bin"),
            first: update("1.0.0.bin", "1.0.0")?,
            second: update("1.1.0.bin", "1.1.0")?,
            crashing: update("1.2.0.bin", "1.2.0")?,
            release: update("1.3.0.otaru", "1.3.0")?,
            delta: update("1.3.0-delta.otaru", "1.3.0")?,
            impatient: update("1.4.0.bin", "1.4.0")?,
            blocking_check: update("1.5.0.bin", "1.5.0")?,
            blocking: update("1.6.0.bin", "1.6.0")?,
        })
    }
}

/// Builds all of it, for a broker at this port.
fn build(folder: &Path, port: u16) -> Result<()> {
    let key = folder.join("key.pem");
    peers::build()?;
    peers::otaru(&["keygen", "--force", "--output"], &[&key])?;
    let public = fs::read_to_string(folder.join("key.pub.pem"))?;
    let credentials = folder.join("credentials.toml");
    for (version, networks, behaviour) in BUILDS {
        fs::write(&credentials, credentials_toml(networks, port, &public))?;
        let credentials = Some(credentials.as_path()).filter(|_| !networks.is_empty());
        put(folder, version, &firmware::for_emulator(version, credentials, behaviour, None)?)?;
    }
    let bin = folder.join("1.3.0.bin");
    let (output, base) = (Path::new("--output"), Path::new("--base"));
    peers::otaru(&["release", "--key"], &[&key, &bin, output, &folder.join("1.3.0.otaru")])?;
    peers::otaru(
        &["release", "--key"],
        &[&key, &bin, base, &folder.join("1.1.0.bin"), output, &folder.join("1.3.0-delta.otaru")],
    )
}

/// Keeps what is needed of a firmware's files.
pub(super) fn put(folder: &Path, version: &str, files: &Files) -> Result<()> {
    fs::copy(&files.app, folder.join(format!("{version}.bin")))?;
    fs::copy(&files.flash, folder.join(format!("{version}-flash.bin")))?;
    fs::copy(&files.elf, folder.join(format!("{version}.elf")))?;
    Ok(())
}

/// Open networks, and this machine as a device in the emulator's sees it.
fn credentials_toml(networks: &[&str], port: u16, key: &str) -> String {
    let networks: String = networks.iter().map(|ssid| format!("[[wifi]]\nssid = \"{ssid}\"\n")).collect();
    format!(
        "{networks}[broker]\nhost = \"{}\"\nport = {port}\n\
         [updates]\nallow_unsigned = true\nkeys = [\"\"\"{key}\"\"\"]\n",
        machine::HOST
    )
}

pub(super) fn a_copy(of: &Path, to: &Path) -> Result<PathBuf> {
    fs::copy(of, to).with_context(|| format!("cannot copy {}", of.display()))?;
    Ok(to.to_owned())
}
