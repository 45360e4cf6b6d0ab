//! The real binary, run as a user runs it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use otaru_testing::{Running, run};

/// A command that does not hear of the tester's own settings.
pub(crate) fn otaru(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_otaru"));
    command.args(args).stdin(Stdio::null());
    for name in [
        "OTARU_BROKER",
        "OTARU_MQTT_VERSION",
        "OTARU_BASE",
        "OTARU_USERNAME",
        "OTARU_PASSWORD",
        "OTARU_CA",
        "OTARU_CLIENT_CERT",
        "OTARU_CLIENT_KEY",
    ] {
        command.env_remove(name);
    }
    command
}

/// A broker on a free port, and its URL.
pub(crate) fn broker(more: &[&str]) -> (Running, String) {
    let mut command = otaru(&["broker", "--listen", "127.0.0.1:0"]);
    command.args(more);
    let broker = Running::start(command);
    let line = broker.line("MQTT broker at ");
    let address = line.rsplit(' ').next().unwrap().to_owned();
    (broker, format!("mqtt://{address}"))
}

/// A file in a folder, as text.
pub(crate) fn path(dir: &Path, name: &str) -> String {
    dir.join(name).to_str().unwrap().to_owned()
}

/// Makes a synthetic firmware file.
pub(crate) fn firmware(dir: &Path, version: &str, behaviour: &str) -> PathBuf {
    let file = dir.join(format!("lamp-{version}.bin"));
    let mut command = otaru(&["image", "make", "--chip", "esp32c3", "--project", "lamp", "--size", "200K"]);
    command.args(["--version", version, "--behaviour", behaviour, "-o"]).arg(&file);
    run(command).with_code(0);
    file
}

/// Virtual devices, up and connected.
pub(crate) fn devices(broker: &str, dir: &Path, firmware: &Path, count: usize) -> Running {
    let mut command = otaru(&["sim", "--speed", "8", "--broker", broker, "--devices", &count.to_string()]);
    command.arg("--dir").arg(dir.join("boards")).arg("--firmware").arg(firmware);
    let devices = Running::start(command);
    for _ in 0..count {
        devices.line(": idle");
    }
    devices
}

/// The slot that a flash dump's otadata selects, and that slot's first bytes.
pub(crate) fn selected(dump: &Path, len: usize) -> (u8, Vec<u8>) {
    use otaru_format::otadata::{Record, select};
    let flash = std::fs::read(dump).unwrap();
    let records = [0xE000, 0xF000].map(|at| Record::parse(&flash[at..at + 32]));
    let slot = records[select(&records).expect("otadata selects nothing")].unwrap().slot(2);
    let at = [0x2_0000, 0x21_0000][usize::from(slot)];
    (slot, flash[at..at + len].to_vec())
}
