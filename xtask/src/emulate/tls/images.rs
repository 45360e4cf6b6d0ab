//! Firmwares that speak TLS, and the certificates that are built into them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::certificates::Authority;
use crate::emulate::images::{Update, put};
use crate::emulate::{machine, peers};
use crate::firmware::{self, Tls};

/// Login of devices with a password.
pub(super) const LOGIN: (&str, &str) = ("lamp", "in-a-scene");
/// Names of the servers' certificates: of the authority that devices trust, and of one that they do not.
pub(super) const SERVER: &str = "server";
pub(super) const STRANGER: &str = "stranger";
/// File of the authority of devices.
pub(super) const DEVICE_CA: &str = "device-ca.pem";
/// File of the authority that devices trust, and of its name in reports.
const CA: [&str; 2] = ["ca.pem", "ca.id"];
/// File of an authority whose key a firmware for a server of one's own does not know.
const FOREIGN_CA: &str = "foreign-ca.pem";
/// File of a device's certificate, with its key.
const DEVICE: &str = "device.pem";
const BEHAVIOUR: &str = "tell_heap";
const SET_UP_BEHAVIOUR: &str = "tell_heap,setup_as_client";

/// The firmwares of the scenes with TLS.
pub(in crate::emulate) struct SecureImages {
    pub(super) ports: Ports,
    pub(super) flash: PathBuf,
    /// Logs in with a password, as the second does.
    pub(super) first: Update,
    pub(super) second: Update,
    /// Shows the broker a certificate.
    pub(super) certified: Update,
    /// The first again, as a signed release.
    pub(super) release: Update,
    /// Knows neither network nor broker nor their CA, as the next does: what they are told on the set-up page is all that they have.
    pub(super) untold: Update,
    pub(super) untold_flash: PathBuf,
    pub(super) untold_next: Update,
    /// Texts that are pasted into the set-up page.
    pub(super) page: Pasted,
}

/// Texts for the set-up page.
pub(super) struct Pasted {
    pub(super) ca: String,
    /// Name of the CA in reports.
    pub(super) ca_id: String,
    /// A CA that this firmware cannot use.
    pub(super) foreign_ca: String,
    pub(super) certificate: String,
    pub(super) key: String,
}

/// Ports of the brokers that are built in.
#[derive(Clone, Copy)]
pub(super) struct Ports {
    pub(super) password: u16,
    pub(super) certificate: u16,
}

impl SecureImages {
    /// Builds them, or takes those of the last run.
    pub(super) fn make(folder: &Path, keep: bool) -> Result<Self> {
        let note = folder.join("ports");
        let kept = fs::read_to_string(&note).ok().as_deref().and_then(Ports::read).filter(|_| keep);
        let ports = match kept {
            Some(ports) => ports,
            None => {
                let ports = Ports { password: peers::free_port()?, certificate: peers::free_port()? };
                build(folder, ports)?;
                fs::write(&note, format!("{} {}", ports.password, ports.certificate))?;
                ports
            }
        };
        let update = |file, version| Update::served(folder, file, version);
        Ok(Self {
            ports,
            flash: folder.join("2.0.0-flash.bin"),
            first: update("2.0.0.bin", "2.0.0")?,
            second: update("2.1.0.bin", "2.1.0")?,
            certified: update("2.2.0.bin", "2.2.0")?,
            release: update("2.0.0.otaru", "2.0.0")?,
            untold: update("2.3.0.bin", "2.3.0")?,
            untold_flash: folder.join("2.3.0-flash.bin"),
            untold_next: update("2.4.0.bin", "2.4.0")?,
            page: Pasted::read(folder)?,
        })
    }
}

impl Pasted {
    fn read(folder: &Path) -> Result<Self> {
        let text = |file| fs::read_to_string(folder.join(file)).context("no certificates of an earlier run");
        let [ca, ca_id] = CA;
        let (certificate, key) = device(folder)?;
        Ok(Self { ca: text(ca)?, ca_id: text(ca_id)?, foreign_ca: text(FOREIGN_CA)?, certificate, key })
    }
}

impl Ports {
    fn read(note: &str) -> Option<Self> {
        let (password, certificate) = note.split_once(' ')?;
        Some(Self { password: password.parse().ok()?, certificate: certificate.trim().parse().ok()? })
    }
}

fn build(folder: &Path, ports: Ports) -> Result<()> {
    peers::build()?;
    let key = folder.join("key.pem");
    peers::otaru(&["keygen", "--force", "--output"], &[&key])?;
    let public = fs::read_to_string(folder.join("key.pub.pem"))?;
    let authority = Authority::new("Authority of the scenes")?;
    authority.sign(folder, SERVER, &[machine::HOST, "127.0.0.1"])?;
    Authority::new("Somebody else")?.sign(folder, STRANGER, &[machine::HOST])?;
    for (file, text) in CA.into_iter().zip([authority.pem(), authority.id()]) {
        fs::write(folder.join(file), text)?;
    }
    fs::write(folder.join(FOREIGN_CA), Authority::on_p384("Authority on another curve")?.pem())?;
    let trust = |authority: &Authority| {
        format!(
            "[updates]\nallow_unsigned = true\nkeys = [\"\"\"{public}\"\"\"]\n\
             [tls]\ntime_server = \"{}\"\nca = '''{}'''\n",
            machine::HOST,
            authority.pem()
        )
    };
    let untold = trust(&Authority::new("Authority of nobody here")?);
    let trust = trust(&authority);
    let (user, password) = LOGIN;
    let with_password =
        credentials(ports.password, &format!("user = \"{user}\"\npassword = \"{password}\"\n"), &trust);
    let certified = credentials(ports.certificate, "", &(trust + &identity(folder)?));
    for (version, credentials, behaviour) in [
        ("2.0.0", &with_password, BEHAVIOUR),
        ("2.1.0", &with_password, BEHAVIOUR),
        ("2.2.0", &certified, BEHAVIOUR),
        ("2.3.0", &untold, SET_UP_BEHAVIOUR),
        ("2.4.0", &untold, SET_UP_BEHAVIOUR),
    ] {
        let file = folder.join("credentials.toml");
        fs::write(&file, credentials)?;
        let files = firmware::for_emulator(version, Some(&file), Some(behaviour), Some(Tls::OwnServer))?;
        put(folder, version, &files)?;
    }
    let (bin, release) = (folder.join("2.0.0.bin"), folder.join("2.0.0.otaru"));
    peers::otaru(&["release", "--key"], &[&key, &bin, Path::new("--output"), &release])
}

/// Certificate of the device's own, by an authority of devices, as a line of `[tls]`.
fn identity(folder: &Path) -> Result<String> {
    let (ca, key) = (folder.join(DEVICE_CA), folder.join("device-ca.key"));
    let device_file = folder.join(DEVICE);
    for file in [&ca, &key, &device_file] {
        let _ = fs::remove_file(file);
    }
    let authority = [Path::new("--device-ca"), &ca, Path::new("--device-ca-key"), &key];
    peers::otaru(&["device-cert", "--make-ca"], &authority)?;
    peers::otaru(&["device-cert", LOGIN.0], &[&authority[..], &[Path::new("-o"), &device_file]].concat())?;
    let (certificate, key) = device(folder)?;
    Ok(format!("certificate = '''{certificate}'''\nkey = '''{key}'''\n"))
}

/// Reads the device's certificate and its key.
fn device(folder: &Path) -> Result<(String, String)> {
    let pem = fs::read_to_string(folder.join(DEVICE))?;
    let at = pem.find("-----BEGIN PRIVATE KEY").context("no key with the certificate")?;
    let (certificate, key) = pem.split_at(at);
    Ok((certificate.to_owned(), key.to_owned()))
}

fn credentials(port: u16, login: &str, trust: &str) -> String {
    let (network, host) = (machine::NETWORK, machine::HOST);
    format!(
        "[[wifi]]\nssid = \"{network}\"\n[broker]\nhost = \"{host}\"\nport = {port}\ntls = true\n{login}{trust}"
    )
}
