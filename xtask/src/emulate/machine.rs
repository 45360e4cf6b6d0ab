//! The emulator: power on, power off without a warning, and its serial console.

use std::env;
use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{self, Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::memory::Stack;
use super::qmp::{self, Qmp};
use crate::shell::{find, output, program};

/// The open network of the emulated Wi-Fi.
pub(super) const NETWORK: &str = "Espressif";
/// This machine's loopback, as a device in the emulated network sees it.
pub(super) const HOST: &str = "10.0.2.2";
/// The address the emulated network gives the device.
const DEVICE: &str = "10.0.2.15";
/// The machine with Wi-Fi; others that are called esp32c3 have none.
const MACHINE: &str = "esp32c3-picsimlab";
const PROGRAM: &str = "qemu-system-riscv32";
/// The environment variable that names the emulator.
const VARIABLE: &str = "OTARU_QEMU";

/// An emulator's program.
#[derive(Clone)]
pub(super) struct Emulator(PathBuf);

impl Emulator {
    /// One that has an ESP32-C3 with Wi-Fi.
    pub(super) fn find() -> Option<Self> {
        let path = env::var_os(VARIABLE).map(PathBuf::from).or_else(|| find(PROGRAM))?;
        let machines = output(program(&path).args(["-machine", "help"]))?;
        machines.lines().any(|line| line.split_whitespace().next() == Some(MACHINE)).then_some(Self(path))
    }

    /// Tells what is missing where there is none.
    pub(super) fn remedy() -> String {
        format!(
            "no {PROGRAM} with the machine {MACHINE}, an ESP32-C3 with Wi-Fi, on the PATH or in {VARIABLE}. No package \
             carries it: it is in lcgamboa's fork of QEMU, which must model systimer, interrupt matrix and Wi-Fi closely \
             enough for esp-hal"
        )
    }
}

/// One emulated board. It loses power when this is dropped.
pub(super) struct Machine {
    emulator: Emulator,
    flash: PathBuf,
    console: PathBuf,
    child: Option<Child>,
    qmp: Option<Qmp>,
    mark: u64,
    /// A port of this machine's that leads to the device's port 80.
    page: Option<u16>,
}

impl Machine {
    /// A board without power.
    pub(super) fn new(emulator: Emulator, flash: PathBuf, console: PathBuf) -> Result<Self> {
        File::create(&console).with_context(|| format!("cannot write {}", console.display()))?;
        Ok(Self { emulator, flash, console, child: None, qmp: None, mark: 0, page: None })
    }

    /// Puts another flash chip in, and makes the device's port 80 reachable here.
    pub(super) fn with_flash(&mut self, flash: PathBuf, page: Option<u16>) -> Result<()> {
        self.cut()?;
        (self.flash, self.page) = (flash, page);
        Ok(())
    }

    /// The flash chip's content.
    pub(super) fn flash(&self) -> &Path {
        &self.flash
    }

    pub(super) fn power_on(&mut self) -> Result<()> {
        let console = OpenOptions::new().append(true).open(&self.console)?;
        let mut command = program(&self.emulator.0);
        // The console is named because a socket for QMP takes it away otherwise.
        command.args(["-nographic", "-serial", "mon:stdio", "-machine", MACHINE, "-drive"]);
        command.arg(format!("file={},if=mtd,format=raw", self.flash.display()));
        let page =
            self.page.map_or_else(String::new, |port| format!(",hostfwd=tcp:127.0.0.1:{port}-{DEVICE}:80"));
        let network = qmp::NETWORK;
        command.arg("-nic").arg(format!("user,model=esp32c3_wifi,id={network},net=10.0.2.0/24{page}"));
        // In a folder with a short name: a socket's path has room for 107 bytes.
        let socket = env::temp_dir().join(format!("otaru-emulate-{}.qmp", process::id()));
        let _ = fs::remove_file(&socket);
        command.arg("-qmp").arg(format!("unix:{},server=on,wait=off", socket.display()));
        command.stdin(Stdio::null()).stdout(console.try_clone()?).stderr(console);
        self.child = Some(command.spawn().context("the emulator does not start")?);
        self.qmp = Some(Qmp::connect(&socket)?);
        let _ = fs::remove_file(&socket);
        Ok(())
    }

    /// Takes the power away at once.
    pub(super) fn cut(&mut self) -> Result<()> {
        self.qmp = None;
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        // The emulated network's connections end with it; the broker may take a moment to see that.
        std::thread::sleep(Duration::from_millis(200));
        Ok(())
    }

    /// Marks the start of [`Self::console_since_mark`].
    pub(super) fn mark(&mut self) {
        self.mark = fs::metadata(&self.console).map_or(0, |file| file.len());
    }

    pub(super) fn console_since_mark(&self) -> Result<String> {
        let bytes = fs::read(&self.console)?;
        let start = usize::try_from(self.mark).unwrap_or(0);
        Ok(String::from_utf8_lossy(bytes.get(start..).unwrap_or_default()).into_owned())
    }

    /// Waits for a line since the mark with all of these in it; returns whether it came in time.
    pub(super) fn wait_line(&self, limit: Duration, parts: &[&str]) -> Result<bool> {
        let end = Instant::now() + limit;
        loop {
            let console = self.console_since_mark()?;
            if console.lines().any(|line| parts.iter().all(|part| line.contains(part))) {
                return Ok(true);
            }
            if Instant::now() >= end {
                return Ok(false);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Takes the device's Wi-Fi away, or gives it back.
    pub(super) fn set_link(&mut self, up: bool) -> Result<()> {
        self.qmp()?.set_link(up)
    }

    /// Bytes of its stack that the program that runs never used.
    pub(super) fn stack_left(&mut self, stack: Stack) -> Result<u64> {
        let dump = self.console.with_file_name("stack.bin");
        stack.left(self.qmp()?, &dump)
    }

    fn qmp(&mut self) -> Result<&mut Qmp> {
        self.qmp.as_mut().context("the device has no power")
    }

    /// The last lines, for whoever looks for what went wrong.
    pub(super) fn console_end(&self) -> String {
        let text = fs::read(&self.console).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let text = text.unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines.get(lines.len().saturating_sub(25)..).unwrap_or_default().join("\n")
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.cut();
    }
}
