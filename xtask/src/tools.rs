//! The tools the checks use besides cargo, and how to come by them.
//!
//! Python tools, cargo-deny and cargo-fuzz go below `target/tools`; only Debian's packages are installed on the
//! system, and only by root. Where something may not be installed, the command to do it by hand is shown.

use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use anyhow::{Context as _, Result};

use crate::shell::{cargo, find, output, program, run, tools_dir};
use crate::{chip, mbedtls};

const CARGO_DENY: &str = "0.20.2";
const CARGO_FUZZ: &str = "0.13.2";
/// pycose 1.1 does not work with cbor2 6, which reads arrays below a tag as tuples.
const PYTHON: [&str; 7] = [
    "esptool==5.6.0",
    "esp-idf-defs==0.1.7",
    "cbor2==5.9.0",
    "cryptography==50.0.2",
    "pycose==1.1.0",
    SCHEMATHESIS,
    // What it makes requests up with. It has a release every few days; another one makes up others.
    "hypothesis==6.170.17",
];
/// axe-core, which finds in pages what keeps people from using them.
const AXE_CORE: &str = "axe-core@4.14.1";
/// Home Assistant, for its schema of MQTT updates: the last version for Python 3.11, and what that needs beside it. It wants other
/// versions of what [`PYTHON`] brings, and so has a folder of its own.
const HOME_ASSISTANT_PYTHON: [&str; 2] = ["homeassistant==2024.3.3", "paho-mqtt==1.6.1"];
/// moto, a stand-in for S3 that checks what it is asked as Amazon does, with what its server needs; in a folder of its own, since it brings a lot.
const MOTO_PYTHON: [&str; 3] = ["moto[s3]==5.2.5", "flask==3.1.3", "flask-cors==6.0.5"];
const SCHEMATHESIS: &str = "schemathesis==4.32.5";
/// Programs and the Debian packages they come in.
const PEERS: [(&str, &str); 21] = [
    ("caddy", "caddy"),
    ("chromium", "chromium"),
    ("c++", "g++"),
    ("curl", "curl"),
    ("faketime", "faketime"),
    ("haproxy", "haproxy"),
    ("ip", "iproute2"),
    ("mosquitto", "mosquitto"),
    ("mosquitto_pub", "mosquitto-clients"),
    ("nats-server", "nats-server"),
    ("npm", "npm"),
    ("nginx", "nginx-light"),
    ("openssl", "openssl"),
    ("pebble", "pebble"),
    ("pgbouncer", "pgbouncer"),
    ("psql", "postgresql"),
    ("rabbitmq-server", "rabbitmq-server"),
    ("sslscan", "sslscan"),
    ("strace", "strace"),
    ("systemd-analyze", "systemd"),
    ("wrk", "wrk"),
];

/// The environment variable that names esptool to the tests.
pub(crate) const ESPTOOL: &str = "OTARU_ESPTOOL";
/// The environment variable that names a Python with esp-idf-defs to the tests.
pub(crate) const PYTHON_DEFS: &str = "OTARU_IDF_PYTHON";
/// The environment variable that names a Python with Home Assistant to the tests.
pub(crate) const HOME_ASSISTANT: &str = "OTARU_HOME_ASSISTANT";
/// The environment variable that names moto's server to the tests.
pub(crate) const MOTO: &str = "OTARU_MOTO";
/// The environment variable that names axe-core to the tests: its `axe.min.js`.
pub(crate) const AXE: &str = "OTARU_AXE";
/// The environment variable that names a Python with pycose, cbor2 and cryptography to the tests.
pub(crate) const PYTHON_COSE: &str = "OTARU_COSE_PYTHON";

/// Whether this is a Debian system.
pub(crate) fn is_debian() -> bool {
    Path::new("/etc/debian_version").exists()
}

/// Whether this is a Debian system and we are its root.
pub(crate) fn is_debian_root() -> bool {
    is_debian() && output(program("id").arg("-u")).is_some_and(|id| id == "0")
}

/// A thing to install, and how.
pub(crate) type Step = (&'static str, fn() -> Result<()>);

/// Steps that wait for the network.
const FETCHED: [Step; 5] = [
    ("Debian packages", packages),
    ("Python tools", python),
    ("Home Assistant", home_assistant),
    ("moto", moto),
    ("axe-core", axe),
];
/// Steps that wait for the processor.
const COMPILED: [Step; 2] = [
    ("cargo-deny", || cargo_tool("cargo-deny", CARGO_DENY, &["--locked"])),
    ("cargo-fuzz", || cargo_tool("cargo-fuzz", CARGO_FUZZ, &["--locked"])),
];

/// Installs what is missing, and this that a check fetches for itself. What cannot be installed is told, and is missed by the check
/// that needs it.
pub(crate) fn install(more: Step) {
    thread::scope(|scope| {
        scope.spawn(|| {
            install_each(&FETCHED);
            install_each(&[more]);
        });
        install_each(&COMPILED);
    });
}

fn install_each(steps: &[Step]) {
    for (what, install) in steps {
        if let Err(error) = install() {
            println!("cannot install {what}: {error:#}");
        }
    }
}

/// Asks whether Debian's packages that are missing may be installed, if there is somebody to ask. Nobody to ask is a yes: root
/// started this for a machine that is for nothing else.
pub(crate) fn may_install() -> bool {
    let missing = missing_packages();
    if missing.is_empty() || !io::stdin().is_terminal() {
        return true;
    }
    print!("Some checks need Debian packages: {}\nInstall them? [Y/n] ", missing.join(" "));
    let mut answer = String::new();
    let heard = io::stdout().flush().and_then(|()| io::stdin().read_line(&mut answer));
    heard.is_ok_and(|bytes| bytes > 0) && is_yes(&answer)
}

/// Whether an answer to `[Y/n]` is a yes.
fn is_yes(answer: &str) -> bool {
    matches!(answer.trim().to_ascii_lowercase().as_str(), "" | "y" | "yes")
}

fn missing_packages() -> Vec<&'static str> {
    let peers = PEERS.into_iter().chain(mbedtls::PROGRAMS);
    let peers = peers.filter(|(name, _)| find(name).is_none()).map(|(_, package)| package);
    let compiler = chip::packages().into_iter().filter(|_| !chip::possible());
    let library = (!mbedtls::has_library()).then_some(mbedtls::LIBRARY);
    let mut missing: Vec<&str> = peers.chain(compiler).chain(library).collect();
    // Debian's Python makes virtual environments only with this.
    if !tools_dir().join("venv").exists() && find("python3").is_none() {
        missing.push("python3-venv");
    }
    missing
}

fn packages() -> Result<()> {
    let missing = missing_packages();
    if missing.is_empty() {
        return Ok(());
    }
    if !is_debian_root() {
        println!("missing; as root on Debian: apt-get install {}", missing.join(" "));
        return Ok(());
    }
    run(apt().arg("update"))?;
    run(apt().args(["install", "--yes", "--no-install-recommends"]).args(missing))
}

fn apt() -> Command {
    let mut command = program("apt-get");
    command.arg("-qq").env("DEBIAN_FRONTEND", "noninteractive");
    command
}

fn python() -> Result<()> {
    venv("venv", &PYTHON)
}

fn home_assistant() -> Result<()> {
    venv("home-assistant", &HOME_ASSISTANT_PYTHON)
}

fn moto() -> Result<()> {
    venv("moto", &MOTO_PYTHON)
}

/// A virtual environment with these packages.
fn venv(name: &str, packages: &[&str]) -> Result<()> {
    let venv = tools_dir().join(name);
    let stamp = venv.join("otaru-pins.txt");
    let pins = packages.join("\n");
    if std::fs::read_to_string(&stamp).is_ok_and(|found| found == pins) {
        return Ok(());
    }
    run(program("python3").args(["-m", "venv"]).arg(&venv))?;
    run(program(venv.join("bin/pip"))
        .args(["install", "--quiet", "--disable-pip-version-check"])
        .args(packages))?;
    Ok(std::fs::write(stamp, pins)?)
}

/// npm fetches it; nothing of it is run by Node.
fn axe() -> Result<()> {
    let folder = tools_dir().join("axe-core");
    let stamp = folder.join("pin.txt");
    if std::fs::read_to_string(&stamp).is_ok_and(|found| found == AXE_CORE) {
        return Ok(());
    }
    std::fs::create_dir_all(&folder)?;
    let mut pack = program("npm");
    run(pack.args(["pack", "--silent", AXE_CORE]).current_dir(&folder))?;
    let packed = std::fs::read_dir(&folder)?.filter_map(|file| Some(file.ok()?.path()));
    let packed = packed.filter(|file| file.extension().is_some_and(|end| end == "tgz")).max();
    let packed = packed.with_context(|| format!("npm packed nothing into {}", folder.display()))?;
    run(program("tar").arg("-xzf").arg(packed).current_dir(&folder))?;
    Ok(std::fs::write(stamp, AXE_CORE)?)
}

fn cargo_tool(name: &str, version: &str, more: &[&str]) -> Result<()> {
    if find(name).is_some() {
        return Ok(());
    }
    // Unoptimised: it is built in a third of the time and runs for seconds.
    let root = tools_dir();
    let build = root.join("build");
    let mut command = cargo(&["install", name, "--debug", "--version", version]);
    run(command.args(more).arg("--root").arg(&root).arg("--target-dir").arg(&build))?;
    Ok(std::fs::remove_dir_all(build)?)
}

/// cargo-deny, if it is there.
pub(crate) fn deny() -> Option<Command> {
    find("cargo-deny").map(program)
}

/// Tells how to get cargo-deny by hand.
pub(crate) fn deny_remedy() -> String {
    format!("cargo install cargo-deny --locked --version {CARGO_DENY} (or cargo xtask test --install)")
}

/// Espressif's esptool: the one that the environment names, or the installed one.
pub(crate) fn esptool() -> Option<PathBuf> {
    let installed = || Some(tools_dir().join("venv/bin/esptool")).filter(|tool| tool.exists());
    std::env::var_os(ESPTOOL).map(PathBuf::from).or_else(installed).or_else(|| find("esptool"))
}

/// Tells how to get Mosquitto by hand.
pub(crate) fn peers_remedy() -> String {
    "apt-get install mosquitto mosquitto-clients (or cargo xtask test --install)".to_owned()
}

/// Tells how to get Schemathesis by hand.
pub(crate) fn schemathesis_remedy() -> String {
    format!("pipx install {SCHEMATHESIS} (or cargo xtask test --install)")
}

/// Tells how to get cargo-fuzz by hand.
pub(crate) fn fuzz_remedy() -> String {
    format!("cargo install cargo-fuzz --locked --version {CARGO_FUZZ} (or cargo xtask test --install)")
}

/// Tells the tests where the tools below `target/tools` are, unless the caller did.
pub(crate) fn name_to_tests(command: &mut Command) {
    for (variable, tool) in [
        (ESPTOOL, "venv/bin/esptool"),
        (PYTHON_DEFS, "venv/bin/python3"),
        (PYTHON_COSE, "venv/bin/python3"),
        (HOME_ASSISTANT, "home-assistant/bin/python3"),
        (AXE, "axe-core/package/axe.min.js"),
        (MOTO, "moto/bin/moto_server"),
    ] {
        let tool = tools_dir().join(tool);
        if std::env::var_os(variable).is_none() && tool.exists() {
            command.env(variable, tool);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_yes_installs() {
        for yes in ["\n", "y\n", "Yes\n", " Y \n"] {
            assert!(is_yes(yes), "{yes:?}");
        }
        for no in ["n\n", "no\n", "nein\n", "what?\n"] {
            assert!(!is_yes(no), "{no:?}");
        }
    }
}
